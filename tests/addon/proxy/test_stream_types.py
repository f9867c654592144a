"""Answers that take their time: which go on as they come, from when, and which are held back and for how long."""

import asyncio
from pathlib import Path

import httpx
import pytest
from mitmproxy.proxy import server

from authpool.config import load_config
from authpool.config.media_range import is_in_range, parse_media_range
from authpool.errors import ConfigurationError
from authpool.proxy import wire
from authpool.proxy.message import is_stream
from authpool.proxy.wire import message_check
from support.answers import JSON
from support.certificates import CertificateAuthority
from support.exchange import Reply
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.scripted import Wakeups
from support.streams import PacedStream
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

PIECES = [b"[1,", b"2,", b"3]"]


@pytest.fixture
def wakeups(monkeypatch: pytest.MonkeyPatch) -> Wakeups:
    """The timers of mitmproxy, which go off when the test says so."""
    timers = Wakeups()
    monkeypatch.setattr(server.ConnectionHandler, "wakeup", timers.stand_in())
    return timers


class Refusal(PacedStream):
    """A 401 or 429 that comes in pieces."""

    def __init__(self, status: int, gate: asyncio.Event) -> None:
        super().__init__(PIECES, "application/json", gate)
        self.status = status

    async def play(self, reply: Reply) -> None:
        await reply.head(self.status, {"content-type": self.content_type})
        self.produced = 1
        await reply.data(self.pieces[0])
        assert self.gate is not None
        await self.gate.wait()
        await reply.data(b"".join(self.pieces[1:]))
        await reply.end()


async def read_paced(stream: httpx.Response, source: PacedStream, gate: asyncio.Event) -> bytes:
    """Read piece by piece: the next is made only when the one before has arrived."""
    pieces = stream.aiter_bytes()
    body = await anext(pieces)
    assert (body, source.produced) == (source.pieces[0], 1)
    while source.produced < len(source.pieces):
        gate.set()
        body += await anext(pieces)
    return body + b"".join([piece async for piece in pieces])


NAMED = (
    "application/vnd.amazon.eventstream",
    "application/connect+json",
    "application/connect+proto",
    "multipart/x-mixed-replace; boundary=x",
)


@pytest.mark.parametrize("content_type", NAMED)
async def test_streams_by_their_type_flow_at_once(content_type: str, rig: Rig, wakeups: Wakeups) -> None:
    """No timer is needed for them."""
    rig.home("alice")
    gate = asyncio.Event()
    source = PacedStream(PIECES, content_type, gate)
    rig.upstream.then(source)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api, api.stream("GET", "/x") as stream:
        assert await read_paced(stream, source, gate) == b"".join(PIECES)
    assert wakeups.delays == []


@pytest.mark.parametrize("named", ("text/plain", "TEXT/*", "*/*"))
async def test_a_pool_names_types_of_its_own(named: str, rig: Rig, wakeups: Wakeups) -> None:
    """`stream_types`; whatever else the content type says."""
    rig.home("alice", stream_types=["application/x-thing", named])
    gate = asyncio.Event()
    source = PacedStream(PIECES, "Text/Plain; charset=utf-8", gate)
    rig.upstream.then(source)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api, api.stream("GET", "/x") as stream:
        assert await read_paced(stream, source, gate) == b"".join(PIECES)
    assert wakeups.delays == []


@pytest.mark.parametrize("stored", (False, True), ids=("not-stored", "stored"))
async def test_an_answer_that_goes_on_for_a_second_flows(*, stored: bool, rig: Rig, wakeups: Wakeups) -> None:
    """Held back at first; from then on as it comes, and kept if mitmproxy is to keep what streams."""
    rig.home("alice")
    gate = asyncio.Event()
    source = PacedStream(PIECES, "application/json", gate)
    rig.upstream.then(source)
    async with reverse_gateway(rig, store_streamed_bodies=stored) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(anext(_pieces(api, source, gate)))
        await gateway.wait_until(lambda: wakeups.delays == [1.0])
        assert not asked.done()
        wakeups.pass_time()
        assert await asked == b"".join(PIECES)
        await gateway.wait_until(lambda: gateway.finished)
        assert gateway.finished[0].response is not None
        assert gateway.finished[0].response.raw_content == (b"".join(PIECES) if stored else None)


async def _pieces(api: httpx.AsyncClient, source: PacedStream, gate: asyncio.Event, url: str = "/x"):  # noqa: ANN202
    async with api.stream("GET", url) as stream:
        yield await read_paced(stream, source, gate)


async def test_it_flows_over_http2_too(
    rig: Rig, http2_upstream: Upstream, authority: CertificateAuthority, confdir: Path, wakeups: Wakeups
) -> None:
    """HTTP/2 on both sides, one second later."""
    rig.upstream = http2_upstream
    rig.host = f"localhost:{rig.upstream.port}"
    rig.home("alice")
    gate = asyncio.Event()
    source = PacedStream(PIECES, "text/plain", gate)
    rig.upstream.then(source)
    async with (
        gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=str(authority.ca_file)) as gateway,
        proxied(gateway.url, confdir, http2=True) as api,
    ):
        asked = asyncio.create_task(anext(_pieces(api, source, gate, f"https://{rig.host}/x")))
        await gateway.wait_until(lambda: 1.0 in wakeups.delays)
        wakeups.pass_time()
        assert await asked == b"".join(PIECES)


async def test_an_answer_that_is_complete_in_time_is_other_addons_to_change(rig: Rig, wakeups: Wakeups) -> None:
    """The timer that comes after the end disturbs nobody, this request or the next."""
    rig.home("alice")
    gate = asyncio.Event()

    class Changes:
        def response(self, flow) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
            flow.response.text += "!"

    rig.upstream.then(PacedStream(PIECES, "text/plain", gate))
    async with reverse_gateway(rig, Changes()) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.get("/x"))
        await gateway.wait_until(lambda: wakeups.delays)
        while not asked.done():
            gate.set()
            await asyncio.sleep(0.005)
        wakeups.pass_time()
        again = await api.get("/x")

    assert asked.result().text == "[1,2,3]!"
    assert again.status_code == 200


async def test_an_answer_of_no_pool_flows_by_its_type_alone(rig: Rig, confdir: Path, wakeups: Wakeups) -> None:
    """What is none of the gateway's business is mitmproxy's, streams apart."""
    rig.home("alice", stream_types=["*/*"])
    gate = asyncio.Event()
    gate.set()
    async with (
        Upstream() as other,
        gateway_master(rig.path, confdir=confdir) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        other.then(PacedStream(PIECES[:2], "text/plain", gate))
        answer = await api.get(f"{other.url}/x")
        assert gateway.finished[0].response is not None
        assert gateway.finished[0].response.raw_content == answer.content == b"[1,2,"
    assert wakeups.delays == []


# --- answers that may lead to a resend ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", (401, 429))
async def test_a_refusal_that_dribbles_is_decided_by_what_there_is(status: int, rig: Rig, wakeups: Wakeups) -> None:
    """A second, then four more; then the request goes on without the rest of it."""
    rig.home("alice", "bob")
    rig.upstream.then(Refusal(status, asyncio.Event()), JSON(200, {"ok": True}))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.post("/x", content=b"body"))
        await gateway.wait_until(lambda: wakeups.delays == [1.0])
        wakeups.pass_time()
        await gateway.wait_until(lambda: wakeups.delays == [4.0])
        assert not asked.done()
        wakeups.pass_time()
        answer = await asked

    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert len(rig.upstream.received) == 2


async def test_a_refusal_that_dribbles_and_is_the_clients_flows_then(rig: Rig, wakeups: Wakeups) -> None:
    """Nobody else may serve it: the upstream's own words go on as they come."""
    rig.home("alice", answers=[{"status": 403, "means": "forbidden"}])
    gate = asyncio.Event()
    source = Refusal(403, gate)
    rig.upstream.then(source)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(anext(_pieces_of(api, gate)))
        for _ in range(2):
            await gateway.wait_until(lambda: wakeups.delays)
            wakeups.pass_time()
        assert await asked == (403, b"".join(PIECES))


async def _pieces_of(api: httpx.AsyncClient, gate: asyncio.Event):  # noqa: ANN202
    async with api.stream("GET", "/x") as stream:
        pieces = stream.aiter_bytes()
        body = await anext(pieces)
        assert body == PIECES[0]
        gate.set()
        yield stream.status_code, body + b"".join([piece async for piece in pieces])


async def test_a_refusal_that_dribbles_for_the_last_account_is_told_by_the_gateway(rig: Rig, wakeups: Wakeups) -> None:
    """The client gets ours, whole."""
    rig.home("alice")
    rig.upstream.then(Refusal(429, asyncio.Event()))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.get("/x"))
        for _ in range(2):
            await gateway.wait_until(lambda: wakeups.delays)
            wakeups.pass_time()
        answer = await asked

    assert (answer.status_code, answer.headers["authpool-error"]) == (503, "pool_exhausted")


# --- the configuration ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ("text/plain", "Text/*", "*/*", " application/vnd.x+json "))
def test_a_media_range_is_read(text: str) -> None:
    """Small letters, no space around."""
    assert parse_media_range(text) == text.strip().lower()


@pytest.mark.parametrize("text", ("", "text", "text/", "*/plain", "text/pl*", "text/plain; charset=utf-8", "te xt/*"))
def test_what_is_no_media_range_names_file_key_and_remedy(text: str, rig: Rig) -> None:
    """A mistake stops the start, and says what to write."""
    rig.home("alice", stream_types=["text/*", text])
    with pytest.raises(ConfigurationError, match=r"authpool\.toml: pools\.p\.stream_types.*1.*text/plain"):
        load_config(rig.path, {})


def test_types_are_compared_whole() -> None:
    """What only begins like a type is another one."""
    assert is_in_range("text/plain;x=y", ["text/plain"])
    assert not is_in_range("text/plainer", ["text/plain"])
    assert not is_in_range("", ["*/*"])
    assert is_stream({"content-type": "application/grpc+proto"})
    assert not is_stream({"content-type": "application/json"}, ["text/*"])


# --- mitmproxy's own check of messages ------------------------------------------------------------------------------


def test_messages_are_checked_quickly_only_where_addons_are_called_fast() -> None:
    """`fast_dispatch = false` is mitmproxy as it comes, from the start or from a reload on."""
    checks = []
    for fast in (True, False, True):
        wire.dispatch(fast=fast)
        checks.append(message_check.MessageData.__post_init__ is message_check._quick_check)
    wire.uninstall()
    checks.append(message_check.MessageData.__post_init__ is message_check._quick_check)
    assert checks == [True, False, True, False]
