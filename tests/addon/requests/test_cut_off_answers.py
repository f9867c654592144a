"""What an upstream's headers say holds for the account, whatever becomes of the body."""

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import pytest

from authpool.proxy.addon import Gateway
from support.answers import Cut, Echo, Hang
from support.exchange import Answer, Reply, Request
from support.pool_rig import Rig, client, reverse_gateway

pytestmark = pytest.mark.mitmproxy

_BODY = {"error": "e" * 1000}


class HeadOnly:
    """The head of an answer, and never its body."""

    def __init__(self, status: int) -> None:
        self._status = status

    async def play(self, reply: Reply) -> None:
        await reply.head(self._status, {"content-type": "application/json"}, 1000)
        await Hang().play(reply)


def states(addon: Gateway) -> dict[str, str]:
    assert addon.service is not None
    now = addon.service.clock.time()
    return {one.record.name: str(one.state(now)) for one in addon.service.snapshot.pools["p"]}


@pytest.mark.parametrize("streamed", (False, True), ids=("held", "streamed"))
async def test_a_401_that_is_cut_off_is_a_401(rig: Rig, *, streamed: bool) -> None:
    """The account is refreshed, and the next request meets no bad token."""
    rig.home("a")
    rig.provider.expire("a")
    rig.upstream.refusal = Cut(401, _BODY)
    options = {"stream_large_bodies": "1k"} if streamed else {}
    async with reverse_gateway(rig, **options) as gateway, client(gateway.url) as api:
        with suppress(httpx.HTTPError):
            await api.post("/x", content=b"x" * 5000)
        await gateway.wait_until(lambda: rig.account("a")["generation"] == 2)
        assert (await api.post("/x", content=b"x" * 5000)).status_code == 200
    assert rig.posts == 1
    assert len(rig.upstream.received) == (2 if streamed else 3)  # what is held is sent again


@pytest.mark.parametrize("by_body", (False, True), ids=("by its status", "by a rule on the body"))
async def test_a_429_that_is_cut_off_is_a_429(rig: Rig, *, by_body: bool) -> None:
    """The account pauses."""
    rules = [{"status": 429, "json": "error", "means": "ok"}] if by_body else []
    rig.home("a", "b", answers=rules or None)
    rig.upstream.respond = lambda request: Cut(429, _BODY) if (request.bearer or "").endswith("a") else Echo()
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        for _ in range(2):
            with suppress(httpx.HTTPError):
                await api.get("/x")
        await gateway.wait_until(lambda: states(addon)["a"] == "cooling")
        assert states(addon)["b"] == "ready"


@pytest.mark.parametrize("status", (401, 429))
async def test_a_client_that_leaves_during_it_changes_nothing(rig: Rig, status: int) -> None:
    """The head had arrived."""
    rig.home("a")
    first: list[Any] = []

    def respond(request: Request) -> Answer:
        first.append(request)
        return HeadOnly(status) if len(first) == 1 else Echo()

    rig.upstream.respond = respond
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.get("/x"))
        await rig.upstream.wait_for_requests(1)
        await gateway.wait_until(lambda: gateway.flows[0].response is not None)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        if status == 401:
            await gateway.wait_until(lambda: rig.account("a")["generation"] == 2)
            assert (await api.get("/x")).status_code == 200
        else:
            await gateway.wait_until(lambda: states(addon)["a"] == "cooling")
