"""A gateway that is asked to stop lets refreshes land, and begins no new ones that its end would cut off."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from support.exchange import Answer
from support.gateway import Mitmdump
from support.pool_rig import Rig
from support.rotating_provider import RotatingProvider
from support.token_endpoint import Form, ScriptedTokenEndpoint
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")
NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")


class _Slow:
    """Answers as the provider does, once it may."""

    def __init__(self, provider: RotatingProvider) -> None:
        self.may_answer = asyncio.Event()
        self._provider = provider

    async def __call__(self, number: int, form: Form) -> Answer:
        await self.may_answer.wait()
        return self._provider(number, form)


async def test_no_refresh_begins_once_the_gateway_is_to_stop(
    tmp_path: Path,
    confdir: Path,
    rotating: RotatingProvider,
    token_endpoint: ScriptedTokenEndpoint,
    upstream: Upstream,
) -> None:
    """SIGTERM while refreshes are under way: a request waits for none and begins none; what was asked is written.

    Who is connected is refused; nobody else gets in.
    """
    rig = Rig(folder=tmp_path, provider=rotating, endpoint=token_endpoint, upstream=upstream)
    home = rig.home(*NAMES, expires_in=-10, paths=["/v1/*"])
    token_endpoint.script = slow = _Slow(rotating)
    gateway = Mitmdump("-s", SCRIPT, "--mode", f"reverse:{upstream.url}", home=home, confdir=confdir)
    async with gateway, httpx.AsyncClient(trust_env=False, timeout=5) as client:
        async with asyncio.timeout(30):
            while not rig.posts:
                await asyncio.sleep(0.01)

        await client.get(f"{gateway.url}/no-pool")  # connected, before nobody can be
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while (await client.get(f"{gateway.url}/no-pool")).headers.get("Authpool-Error") is None:
                await asyncio.sleep(0.01)
        answers = [await client.get(f"{gateway.url}/v1/x") for _ in NAMES]
        assert [answer.headers["Authpool-Error"] for answer in answers] == ["gateway_error"] * len(NAMES)

        async with httpx.AsyncClient(trust_env=False, timeout=5) as newcomer:
            with pytest.raises(httpx.ConnectError):  # so a balancer, or a client that tries again, goes elsewhere
                await newcomer.get(f"{gateway.url}/v1/x")

        slow.may_answer.set()
        assert await gateway.stop() == 0
    assert set(rig.bearers) <= {None}
    stored = [rig.account(name)["token"]["refresh_token"] for name in NAMES]
    assert all(rotating.is_current(refresh_token) for refresh_token in stored)
