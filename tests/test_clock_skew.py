"""Gateways on one home whose clocks are an hour apart: more refreshes than needed at worst, and nothing else."""

import asyncio
from pathlib import Path

import pytest

from authpool.accounts.account import fingerprint
from authpool.gateway.service import Service
from authpool.pool.pool import State
from authpool.requests.account_picker import PooledRequest
from authpool.rotation.rotation import RotationRequest
from support.clock import FakeClock
from support.home import read_account, write_account
from support.idle_gateway import STEP_SECONDS, idle_gateway, idle_home, sign_in, state, turn
from support.rotating_provider import RotatingProvider
from support.transport import Transport, reply

HOUR = 3600


async def ask(gateway: Service) -> str:
    """Send a request's worth; answers the access token it goes out with."""
    request = RotationRequest(method="GET", host="api.test", path="/")
    pooled = PooledRequest(pool="p", rotation="round_robin", request=request, max_accounts=3)
    await gateway.picker.acquire(pooled)
    assert pooled.refusal is None
    return pooled.access_token


@pytest.mark.parametrize("skew", (-HOUR, HOUR))
@pytest.mark.parametrize("lifetime", (300, 3600))
async def test_two_gateways_an_hour_apart(skew: int, lifetime: int, tmp_path: Path, clock: FakeClock) -> None:
    """For two hours both serve, the one's expiries and intents read by the other; nobody is disabled or lost."""
    provider = RotatingProvider(expires_in=lifetime, monotonic=clock.monotonic)
    other = FakeClock(clock.time() + skew)
    home = idle_home(tmp_path, clock, provider, "alice")
    transport = Transport(provider)
    async with idle_gateway(home, clock, transport) as one, idle_gateway(home, other, transport) as two:
        began = clock.monotonic()
        while clock.monotonic() < began + 2 * HOUR:
            for turned, gateway in ((clock, one), (other, two)):
                await turned.advance(20)
                await asyncio.sleep(0.0005)  # its threads
                await gateway.catch_up()
                assert provider.account_of(await ask(gateway)) == "alice"
        document = read_account(home, "p/alice")
        assert provider.is_current(document["token"]["refresh_token"])
        assert not document["disabled"]
        assert len(transport.posts) <= 2 * 2 * HOUR / (lifetime * 0.7) + 2


@pytest.mark.parametrize("skew", (-HOUR, HOUR))
async def test_what_the_other_clock_wrote_is_understood(skew: int, tmp_path: Path, clock: FakeClock) -> None:
    """A cut-off refresh, a verdict and a pause of an hour ago or ahead mean what they mean at any time."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider)
    at = int(clock.time()) + skew
    for name in ("cut", "dead", "paused"):
        sign_in(home, clock, provider, name)
    cut = read_account(home, "p/cut")
    mark = fingerprint(cut["token"]["refresh_token"])
    cut["token"]["expires_at"] = int(clock.time()) - 1
    write_account(home, "p/cut", cut | {"pending_refresh": {"fingerprint": mark, "started_at": at}})
    verdict = {"disabled": True, "disabled_at": at, "disabled_reason": "invalid_grant: x"}
    write_account(home, "p/dead", read_account(home, "p/dead") | verdict)
    pause = {"proxy_disabled": True, "proxy_disabled_at": at}
    write_account(home, "p/paused", read_account(home, "p/paused") | pause)
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        assert state(gateway, "dead") is State.DISABLED
        assert state(gateway, "paused") is State.PAUSED
        await turn(clock, STEP_SECONDS)
        document = read_account(home, "p/cut")
        assert "pending_refresh" not in document
        assert provider.is_current(document["token"]["refresh_token"])
        assert state(gateway, "cut") is State.READY
        sign_in(home, clock, provider, "dead", generation=2)
        await gateway.catch_up()
        assert state(gateway, "dead") is State.READY


@pytest.mark.parametrize("step", (-HOUR, HOUR))
async def test_a_clock_that_is_put_while_an_endpoint_is_down(step: int, tmp_path: Path, clock: FakeClock) -> None:
    """An NTP step in the middle of a backoff: the account is back seconds after its endpoint, not an hour."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider)
    token = provider.issue("alice")
    ended = {
        "access_token": "ended",
        "refresh_token": token["refresh_token"],
        "expires_at": int(clock.time()) - 2 * HOUR,
    }
    write_account(home, "p/alice", {"token": ended})
    transport = Transport(provider)
    transport.script.extend([reply(503)] * 8)
    async with idle_gateway(home, clock, transport) as gateway:
        await turn(clock, 40)
        assert state(gateway, "alice") is State.COOLING
        clock.jump(step)
        transport.script.clear()
        await turn(clock, 60)
        assert state(gateway, "alice") is State.READY
        assert provider.account_of(await ask(gateway)) == "alice"
