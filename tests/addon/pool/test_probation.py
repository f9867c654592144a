"""An account whose tokens were refused, after its cooldown: nobody knows yet whether it serves, and nobody says so."""

from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.accounts.standing import TOKEN_REFUSED, Cooldown
from authpool.requests.readiness import UNTRIED_SECONDS
from authpool.verbs.account_rows import live_rows
from support.clock import FakeClock
from support.idle_gateway import idle_gateway, idle_home, turn
from support.operator import open_desk
from support.rotating_provider import RotatingProvider
from support.transport import Transport

KEY = AccountKey.parse("p/alice")


async def test_it_is_cooling_until_a_request_is_served(tmp_path: Path, clock: FakeClock) -> None:
    """And the pool is not ready the moment the time is over: first for as long as a request may be the one to tell."""
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, "alice")
    async with idle_gateway(home, clock, transport) as gateway:
        pool = gateway.snapshot.pools["p"]
        throttle = pool.throttle(KEY, clock.time() + 5, TOKEN_REFUSED, sent_at=clock.time())
        assert throttle is not None
        await turn(clock, 6, lambda: clock.time() > throttle.until)
        (row,) = live_rows(gateway)
        assert (row.state, row.until) == ("cooling", None)
        assert row.reason.startswith(TOKEN_REFUSED)
        assert not gateway.readiness.of(pool.config).can_serve
        await turn(clock, UNTRIED_SECONDS + 2, lambda: gateway.readiness.of(pool.config).can_serve)
        assert gateway.readiness.of(pool.config).can_serve  # somebody has to try it
        assert pool.proved(KEY, sent_at=clock.time())
        assert [row.state for row in live_rows(gateway)] == ["ready"]


def _cooldown(until: float) -> Cooldown:
    return Cooldown(until=int(until) + 1, reason=TOKEN_REFUSED)


@pytest.mark.parametrize("command", ("resume", "another process"))
async def test_it_ends_when_somebody_takes_the_cooldown_back(tmp_path: Path, command: str) -> None:
    """On the command line too, which knows nothing but the file."""
    async with open_desk(tmp_path) as desk:
        refused = [{"until": 1_700_000_000, "reason": TOKEN_REFUSED}]
        token = {"access_token": "secret", "expires_at": 4_000_000_000}
        desk.write("google/alice", token=token, cooldowns=refused)
        (row,) = await desk.operations.accounts()
        assert (row.state, row.until) == ("cooling", None)
        if command == "resume":
            assert await desk.operations.resume("google/alice") == "Resumed google/alice"
        else:
            desk.write("google/alice", token=token)
        (row,) = await desk.operations.accounts()
        assert (row.state, row.reason) == ("ready", "")


async def test_a_gateway_hears_that_it_was_taken_back(tmp_path: Path, clock: FakeClock) -> None:
    """After the cooldown's time, by another gateway's hand or an operator's."""
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, "alice")
    async with idle_gateway(home, clock, transport) as gateway:
        pool = gateway.snapshot.pools["p"]
        member = pool.get(KEY)
        assert member is not None
        account = member.account
        throttle = pool.throttle(KEY, clock.time() + 2, TOKEN_REFUSED, sent_at=clock.time())
        assert throttle is not None
        refused = account.with_cooldown(_cooldown(throttle.until), clock.time())
        pool.put(refused)
        await turn(clock, 4)
        assert [row.state for row in live_rows(gateway)] == ["cooling"]
        pool.put(refused.with_token_accepted())
        assert [row.state for row in live_rows(gateway)] == ["ready"]
