"""A flow that is over, though somebody keeps it: nothing of ours stays with it, and nothing goes out for it."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from mitmproxy import http
from mitmproxy.connection import Server

from authpool.proxy.addon import Gateway
from authpool.proxy.ticket import Ticket
from authpool.requests.pooled_request import PooledRequest
from support.answers import JSON, Cut, Echo, Hang, Reset
from support.pool_rig import Rig, client, reverse_gateway

pytestmark = pytest.mark.mitmproxy


def _held() -> list[Ticket | PooledRequest]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, Ticket | PooledRequest)]


@pytest.fixture
def kept() -> Callable[[str], list[object]]:
    """What of this test's requests is in memory still: tickets, and pooled_requests with a token."""
    before = _held()

    def since(token: str) -> list[object]:
        found = [thing for thing in _held() if not any(thing is one for one in before)]
        return [thing for thing in found if isinstance(thing, Ticket) or thing.access_token == token]

    return since


@pytest.mark.parametrize(
    "answer",
    (Echo(), JSON(401, {}), JSON(429, {}), JSON(401, {"page": "x" * 300_000}), Cut(200, {"a": "b" * 99}), Reset()),
    ids=lambda answer: repr(answer)[:30],
)
async def test_nothing_of_ours_is_kept_with_it(rig: Rig, kept: Callable[[str], list[object]], answer: Any) -> None:
    """However it ended: no ticket, no pooled, no token."""
    rig.home("a")
    rig.upstream.respond = lambda _request: answer
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        for _ in range(3):
            with suppress(httpx.HTTPError):
                await api.get("/x")
        await gateway.wait_until(lambda: not addon._traffic._replacing)  # type: ignore[union-attr]
        token = rig.account("a")["token"]["access_token"]
        assert len(gateway.finished) == 3
        assert kept(token) == []


async def test_nothing_is_kept_of_a_client_that_left(rig: Rig, kept: Callable[[str], list[object]]) -> None:
    """While the upstream was silent."""
    rig.home("a")
    rig.upstream.respond = lambda _request: Hang()
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        leaves = asyncio.create_task(api.get("/x"))
        await rig.upstream.wait_for_requests(1)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        await gateway.wait_until(lambda: gateway.finished)
        assert kept(rig.account("a")["token"]["access_token"]) == []


async def test_the_wire_gets_nothing_for_it_any_more(rig: Rig) -> None:
    """Whoever sends a flow again that is over must have it decided about anew."""
    rig.home("a")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        flow, traffic = gateway.finished[0], addon._traffic
        assert traffic is not None
        server = Server(address=(rig.upstream.host, rig.upstream.port))
        refused = traffic.gate.outgoing(flow, flow.request, server)
        assert isinstance(refused, http.Response)
        assert refused.status_code == 500
        assert not traffic.gate.may_resend(flow)
        assert not traffic.gate.resend(flow)
        assert traffic.finished(flow) is None  # an error after the answer


async def test_a_replay_starts_anew(rig: Rig, kept: Callable[[str], list[object]]) -> None:
    """Mitmproxy's own client replay: another token is put on, and that is let go of too."""
    rig.home("a", "b")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        gateway.master.commands.call("replay.client", [gateway.finished[0]])
        await rig.upstream.wait_for_requests(2)
        await gateway.wait_until(lambda: len(gateway.finished) == 2)
        assert sorted(rig.owners) == ["a", "b"]
        for name in ("a", "b"):
            assert kept(rig.account(name)["token"]["access_token"]) == []


async def test_an_answer_of_another_addon_is_no_upstreams(rig: Rig) -> None:
    """It says 401 to a request that was never sent: no account is refreshed, or left out."""

    class Answers:
        def request(self, flow: http.HTTPFlow) -> None:
            flow.response = http.Response.make(401)

    rig.home("a")
    addon = Gateway()
    async with reverse_gateway(rig, Answers(), gateway=addon) as gateway, client(gateway.url) as api:
        assert [(await api.get("/x")).status_code for _ in range(3)] == [401] * 3
        assert not addon._traffic._replacing  # type: ignore[union-attr]
    assert rig.posts == 0
