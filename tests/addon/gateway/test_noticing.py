"""What an idle gateway notices by itself: accounts that died, a client that is rejected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.confirmation import LATEST_SECONDS
from authpool.oauth.verdict import Answer
from authpool.pool.pool import State
from authpool.refresh.schedule import JITTER
from support.clock import FakeClock
from support.home import read_account
from support.idle_gateway import STEP_SECONDS, counts, health_of, idle_gateway, idle_home, sign_in, state, turn
from support.rotating_provider import RotatingProvider
from support.transport import Transport, reply


@pytest.mark.parametrize("paused", (False, True))
@pytest.mark.parametrize(("lifetime", "advisory"), ((3600, 300), (600, 120), (60, 12)))
async def test_a_revoked_account_is_noticed_while_its_token_has_the_advisory_lead_left(
    *, lifetime: int, advisory: int, paused: bool, tmp_path: Path, clock: FakeClock
) -> None:
    """Revoked right after a refresh, the worst moment, and used by nobody: on disk and out of the pool in time."""
    provider = RotatingProvider(expires_in=lifetime, monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider)
    sign_in(home, clock, provider, "alice", proxy_disabled=paused)
    transport = Transport(provider)
    async with idle_gateway(home, clock, transport) as gateway:
        await turn(clock, lifetime, until=lambda: transport.posts)
        provider.revoke("alice")
        expires_at = read_account(home, "p/alice")["token"]["expires_at"]
        await turn(clock, expires_at - clock.time() - advisory * (1 + JITTER) - STEP_SECONDS)
        assert len(transport.posts) == 1  # nobody asks before
        assert not read_account(home, "p/alice")["disabled"]
        await turn(clock, expires_at - clock.time() - advisory + 1)  # `expires_at` is in whole seconds
        assert state(gateway, "alice") in {State.PAUSED if paused else State.COOLING, State.DISABLED}
        await turn(clock, LATEST_SECONDS)
        document = read_account(home, "p/alice")
        assert document["disabled"]
        assert document["disabled_at"] <= expires_at - advisory + 1 + LATEST_SECONDS
        assert state(gateway, "alice") is State.DISABLED
        assert document.get("proxy_disabled", False) is paused
        assert len(transport.posts) == 3


class RejectingEndpoint:
    """Knows no such client, and takes its time to say so."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.posts = 0

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        self.posts += 1
        await self._clock.sleep(7)
        return reply(401, {"error": "invalid_client"})

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        raise NotImplementedError


async def test_a_rejected_client_is_unhealthy_from_the_last_tokens_end_on(tmp_path: Path, clock: FakeClock) -> None:
    """While a token lives the pool can serve; after that it can't, not even while the client is tried again."""
    provider = RotatingProvider(expires_in=600, monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice", "bob")
    endpoint = RejectingEndpoint(clock)
    async with idle_gateway(home, clock, endpoint) as gateway:
        expires_at = read_account(home, "p/alice")["token"]["expires_at"]
        await turn(clock, expires_at - clock.time() - STEP_SECONDS)
        assert gateway.refresher.fault("p") is not None
        assert health_of(gateway).status == 200
        await turn(clock, STEP_SECONDS)
        asked, told = endpoint.posts, []
        for _ in range(60):
            told.append(health_of(gateway))
            await turn(clock, STEP_SECONDS)
        assert endpoint.posts > asked + 2  # it is tried again meanwhile
        assert {answer.status for answer in told} == {503}
        assert {_pool(answer.document).get("client") for answer in told} == {"rejected"}
        assert State.DISABLED not in counts(gateway)


def _pool(document: Mapping[str, Any]) -> Mapping[str, Any]:
    pool: Mapping[str, Any] = document["pools"]["p"]
    return pool
