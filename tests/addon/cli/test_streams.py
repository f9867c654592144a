"""What arrives piece by piece goes on piece by piece, also after a refused token."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from support.certificates import CertificateAuthority
from support.exchange import Reply
from support.http2 import Http2Reply
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.streams import GrpcStatus, PacedStream, event_stream, grpc_stream, line_stream, slow_body
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy


MAKERS = {"events": event_stream, "ndjson": line_stream}


async def read_paced(stream: httpx.Response, source: PacedStream, gate: asyncio.Event) -> bytes:
    """Read piece by piece: the next is produced only when the one before has arrived."""
    pieces = stream.aiter_bytes()
    body = await anext(pieces)
    while source.produced < len(source.pieces):
        produced = source.produced
        assert body == b"".join(source.pieces[:produced])
        gate.set()
        body += await anext(pieces)
    return body + b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("refused_first", (False, True), ids=("at-once", "after-a-401"))
@pytest.mark.parametrize("kind", tuple(MAKERS))
async def test_each_piece_reaches_the_client_before_the_next_is_made(
    *, rig: Rig, kind: str, refused_first: bool
) -> None:
    """Event streams and line streams are not buffered, nor is the retry's answer."""
    rig.home("alice")
    if refused_first:
        rig.provider.expire("alice")
    gate = asyncio.Event()
    source = MAKERS[kind](3, gate)
    rig.upstream.then(source)
    async with (
        reverse_gateway(rig) as gateway,
        client(gateway.url) as api,
        api.stream("POST", "/x", content=b"body") as stream,
    ):
        body = await read_paced(stream, source, gate)
        await gateway.wait_until(lambda: gateway.finished)
        comment = gateway.finished[0].comment

    assert stream.status_code == 200
    assert body == b"".join(source.pieces)
    assert len(rig.upstream.received) == (2 if refused_first else 1)
    assert "outcome=200" in comment


async def test_an_ordinary_answer_is_not_streamed(rig: Rig) -> None:
    """Other addons may still want to look into it: only streams are taken out of their hands."""
    rig.home("alice")
    gate = asyncio.Event()
    gate.set()
    rig.upstream.then(slow_body(b"first", b"rest", gate))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")
        assert gateway.finished[0].response is not None
        assert gateway.finished[0].response.raw_content == answer.content == b"firstrest"


@pytest.mark.parametrize("refused_first", (False, True), ids=("at-once", "after-a-401"))
async def test_an_event_stream_over_http2_flows_too(
    *, rig: Rig, refused_first: bool, http2_upstream: Upstream, authority: CertificateAuthority, confdir: Path
) -> None:
    """HTTP/2 on both sides."""
    rig.upstream = http2_upstream
    rig.host = f"localhost:{rig.upstream.port}"
    rig.home("alice")
    if refused_first:
        rig.provider.expire("alice")
    gate = asyncio.Event()
    source = event_stream(3, gate)
    rig.upstream.then(source)
    async with (
        gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=str(authority.ca_file)) as gateway,
        proxied(gateway.url, confdir, http2=True) as api,
        api.stream("GET", f"https://{rig.host}/x") as stream,
    ):
        body = await read_paced(stream, source, gate)

    assert stream.http_version == "HTTP/2"
    assert body == b"".join(source.pieces)


class Upload:
    """A body whose second half waits for the test."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self.first, self.rest = first, rest
        self.go = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.first
        await self.go.wait()
        yield self.rest


async def test_grpc_streams_both_ways(rig: Rig) -> None:
    """The upstream has the beginning of the body before the client has sent the end."""
    rig.home("alice")
    source = grpc_stream((b"one", b"two"))
    rig.upstream.then(source)
    message = struct.pack(">BI", 0, 5) + b"hello"
    upload = Upload(message, message)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        head_arrived = _arrival(rig)
        asked = asyncio.create_task(
            api.post("/svc/Method", content=upload, headers={"content-type": "application/grpc"})
        )
        await gateway.wait_until(head_arrived)
        upload.go.set()
        answer = await asked

    assert answer.content == b"".join(source.pieces)
    assert rig.upstream.received[0].body == message * 2
    assert rig.owners == ["alice"]


def _arrival(rig: Rig) -> Callable[[], bool]:
    """Whether something of a request has arrived: the connection that it came on is there."""
    before = rig.upstream.server.connections_made
    return lambda: rig.upstream.server.connections_made > before


@pytest.mark.parametrize("sent_as", ("headers", "trailers"))
async def test_grpcs_own_refusal_replaces_the_token(
    rig: Rig, sent_as: str, http2_upstream: Upstream, authority: CertificateAuthority, confdir: Path
) -> None:
    """GRPC says "unauthenticated" with HTTP 200: it can't be sent again, but the next call has a fresh token."""
    rig.upstream = http2_upstream
    rig.host = f"localhost:{rig.upstream.port}"
    rig.home("alice")
    rig.provider.expire("alice")
    refusal = GrpcStatus(16) if sent_as == "headers" else GrpcTrailers(16)
    rig.upstream.refusal = refusal
    rig.upstream.respond = lambda _request: grpc_stream()
    call = {"content": b"\0\0\0\0\0", "headers": {"content-type": "application/grpc", "te": "trailers"}}
    async with (
        gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=str(authority.ca_file)) as gateway,
        proxied(gateway.url, confdir, http2=True) as api,
    ):
        first = await api.post(f"https://{rig.host}/svc/Method", **call)  # type: ignore[arg-type]
        second = await api.post(f"https://{rig.host}/svc/Method", **call)  # type: ignore[arg-type]

    assert (first.status_code, first.content) == (200, b"")
    assert second.content.endswith(b"hello")
    assert rig.posts == 1


class GrpcTrailers:
    """A gRPC answer whose status comes in the trailers (HTTP/2)."""

    def __init__(self, status: int) -> None:
        self._status = status

    async def play(self, reply: Reply) -> None:
        assert isinstance(reply, Http2Reply)
        await reply.head(200, {"content-type": "application/grpc"})
        reply._protocol.send_headers(reply._stream, [("grpc-status", str(self._status))], end_stream=True)
        await reply._connection.flush()
