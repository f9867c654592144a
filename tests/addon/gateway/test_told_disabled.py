"""That an account is disabled is in the log of every gateway, once, whoever passed the verdict."""

import asyncio
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from support.clock import FakeClock
from support.home import read_account, write_account
from support.idle_gateway import idle_gateway, idle_home, turn
from support.rotating_provider import RotatingProvider
from support.transport import Transport

KEY = AccountKey.parse("p/alice")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    beginnings = ("Disabling account p/alice", "Skipping disabled account p/alice")
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(beginnings)]


@pytest.mark.parametrize("noticed", ("while it waits", "afterwards"))
async def test_another_process_passes_the_verdict_while_a_refresh_waits_for_it(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, noticed: str
) -> None:
    """The refresh finds the account disabled, and has nothing to tell by itself."""
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, "alice", "bob")
    async with idle_gateway(home, clock, transport) as gateway:
        member = gateway.snapshot.pools["p"].get(KEY)
        assert member is not None
        async with gateway.store.hold(KEY):
            waiting = asyncio.ensure_future(gateway.refresher.refresh(member.account, rejected="a token"))
            await clock.settle()
            verdict = {"disabled": True, "disabled_at": int(clock.time()), "disabled_reason": "invalid_grant"}
            write_account(home, "p/alice", read_account(home, "p/alice") | verdict)
            if noticed == "while it waits":
                await gateway.catch_up()
        await waiting
        await gateway.catch_up()
        await turn(clock, 2)
        (line,) = lines(caplog)
        assert line.startswith("Skipping disabled account p/alice (invalid_grant, since ")


async def test_an_own_verdict_is_told_once(tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Not a second time, when the store tells of it."""
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, "alice", "bob")
    async with idle_gateway(home, clock, transport) as gateway:
        transport.provider.revoke("alice")
        member = gateway.snapshot.pools["p"].get(KEY)
        assert member is not None
        begun = asyncio.ensure_future(gateway.refresher.refresh(member.account, force=True))
        await turn(clock, 20, lambda: lines(caplog))
        await begun
        await gateway.catch_up()
        (line,) = lines(caplog)
        assert line.startswith("Disabling account p/alice due to invalid_grant")
