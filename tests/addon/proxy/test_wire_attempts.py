"""A request that is sent again: what is left of an attempt that is over disturbs nobody."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from support.certificates import CertificateAuthority
from support.gateway import RunningGateway
from support.node import NodeMissingError, node, node_is_required
from support.pool_rig import Rig, client, gateway_master, proxied
from support.scripted import Http2Upstream, RawConnection, RawUpstream, ScriptedStream

pytestmark = pytest.mark.mitmproxy

BODY = b"x" * 200_000


@asynccontextmanager
async def http2_gateway(
    rig: Rig, upstream: Any, authority: CertificateAuthority, confdir: Path, *names: str, **pool: Any
) -> AsyncIterator[tuple[RunningGateway, httpx.AsyncClient]]:
    """HTTP/2 on both sides, on one connection of the client."""
    rig.host = upstream.authority
    rig.home(*(names or ("alice",)), **pool)
    settings = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file)}
    async with (
        gateway_master(rig.path, confdir=confdir, **settings) as gateway,
        proxied(gateway.url, confdir, http2=True, limits=httpx.Limits(max_connections=1)) as api,
    ):
        yield gateway, api


@asynccontextmanager
async def http1_gateway(rig: Rig, upstream: RawUpstream, *names: str, **pool: Any) -> AsyncIterator[Any]:
    rig.host = upstream.authority
    rig.home(*(names or ("alice",)), **pool)
    async with (
        gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway,
        client(gateway.url) as api,
    ):
        yield gateway, api


class Refusing:
    """Refuses dead tokens as soon as the headers are here, and then does what a test is about."""

    def __init__(self, rig: Rig, then: Any, *, status: int = 401) -> None:
        self.rig, self.then, self.status = rig, then, status
        self.refused: list[ScriptedStream] = []

    def at_head(self, stream: ScriptedStream) -> None:
        if not self.refused if self.status == 429 else stream.bearer not in self.rig.provider:
            self.refused.append(stream)
            stream.is_read = False
            stream.head(self.status, end=True)
            self.then(stream)

    def at_end(self, stream: ScriptedStream) -> None:
        if stream not in self.refused:
            stream.head(200)
            stream.data(b"%d" % len(stream.body), end=True)

    def upstream(self, authority: CertificateAuthority) -> Http2Upstream:
        return Http2Upstream(authority.server_context(http2=True), at_head=self.at_head, at_end=self.at_end)


def reset_at_once(stream: ScriptedStream) -> None:
    stream.reset(0)


def nothing(stream: ScriptedStream) -> None:
    pass


def go_away(stream: ScriptedStream) -> None:
    stream.protocol.close_connection(0)


def close(stream: ScriptedStream) -> None:
    stream.close()


@pytest.mark.parametrize("status", (401, 429))
@pytest.mark.parametrize("then", (reset_at_once, nothing, go_away, close), ids=lambda then: then.__name__)
async def test_an_early_refusal_over_http2_leaves_nothing_behind(
    *, then: Any, status: int, rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """200,000 bytes on their way, the answer before most of them, then whatever ends the stream."""
    refusing = Refusing(rig, then, status=status)
    async with (
        refusing.upstream(authority) as upstream,
        http2_gateway(rig, upstream, authority, confdir, "alice", "bob") as (gateway, api),
    ):
        if status == 401:
            rig.provider.expire("alice")
            rig.provider.expire("bob")
        answers = [await api.post(f"{upstream.url}/x", content=BODY) for _ in range(2)]
        await gateway.wait_until(lambda: len(gateway.finished) == 2)
        errors = [flow.error for flow in gateway.finished]

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"200000")] * 2
    assert errors == [None, None]


async def test_a_reset_that_comes_while_the_next_attempt_is_under_way_is_nobodys(
    rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """RST_STREAM of the first stream arrives when the second has begun."""
    first: list[ScriptedStream] = []

    def at_head(stream: ScriptedStream) -> None:
        if not first:
            first.append(stream)
            stream.head(401, end=True)
        else:
            first[0].protocol.streams.pop(first[0].id, None)
            frame = b"\x00\x00\x04\x03\x00" + first[0].id.to_bytes(4, "big") + bytes(4)
            stream._writer.write(frame)

    def at_end(stream: ScriptedStream) -> None:
        if stream is not first[0]:
            stream.head(200)
            stream.data(b"done", end=True)

    async with (
        Http2Upstream(authority.server_context(http2=True), at_head=at_head, at_end=at_end) as upstream,
        http2_gateway(rig, upstream, authority, confdir) as (_, api),
    ):
        answer = await api.post(f"{upstream.url}/x", content=BODY)

    assert (answer.status_code, answer.content) == (200, b"done")


async def test_the_unsent_rest_of_a_refused_body_is_not_sent(
    rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """The first stream is cancelled, so that it counts no more among those the upstream allows."""
    refusing = Refusing(rig, nothing)
    async with (
        refusing.upstream(authority) as upstream,
        http2_gateway(rig, upstream, authority, confdir) as (_, api),
    ):
        rig.provider.expire("alice")
        answer = await api.post(f"{upstream.url}/x", content=BODY)
        first = upstream.streams[0]

    assert answer.status_code == 200
    assert first.resets == [8]  # CANCEL
    assert len(first.body) < len(BODY)
    assert upstream.connections_made == 1


NODE_SERVER = """
const http2 = require('node:http2'), fs = require('node:fs');
const pem = fs.readFileSync(process.argv[2]);
const server = http2.createSecureServer({key: pem, cert: pem});
let refused = false;
server.on('stream', (stream) => {
  stream.on('error', () => {});
  if (!refused) {
    refused = true;
    stream.respond({':status': 401}, {endStream: true});
    stream.close(http2.constants.NGHTTP2_NO_ERROR);
    return;
  }
  let size = 0;
  stream.on('data', (piece) => { size += piece.length; });
  stream.on('end', () => { stream.respond({':status': 200}); stream.end(String(size)); });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""


class NodeUpstream:
    """Node's own http2 server, which answers early and closes the stream."""

    def __init__(self, pem: Path, folder: Path) -> None:
        (folder / "server.js").write_text(NODE_SERVER)
        self._command = [node(), str(folder / "server.js"), str(pem)]

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(*self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.authority = f"localhost:{int(await self._process.stdout.readline())}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._process.kill()
        await self._process.wait()


async def test_a_stock_node_server_that_refuses_early_gets_the_second_attempt(
    rig: Rig, authority: CertificateAuthority, confdir: Path, tmp_path: Path
) -> None:
    """`respond(..., {endStream: true})` and `close(NO_ERROR)` while the upload goes on."""
    try:
        server = NodeUpstream(authority.server_file, tmp_path)
    except NodeMissingError as missing:
        if node_is_required():
            raise
        pytest.skip(str(missing))
    async with server, http2_gateway(rig, server, authority, confdir) as (_, api):
        answer = await api.post(f"https://{server.authority}/x", content=BODY)

    assert (answer.status_code, answer.content) == (200, b"200000")


# --- HTTP/1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", (401, 429))
@pytest.mark.parametrize("said", (b"Connection: close\r\n", b""), ids=("said", "unsaid"))
async def test_an_early_refusal_over_http1_that_closes_the_connection(*, status: int, said: bytes, rig: Rig) -> None:
    """The upstream reads the head alone, answers and leaves, whether or not it said that it would."""

    async def script(connection: RawConnection) -> None:
        head = await connection.head()
        if connection.number:
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await connection.reader.readexactly(length)
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            await connection.head()
            return
        await connection.send(b"HTTP/1.1 %d No\r\n%bContent-Length: 0\r\n\r\n" % (status, said))

    async with RawUpstream(script) as upstream, http1_gateway(rig, upstream, "alice", "bob") as (_, api):
        answer = await api.post("/x", content=b"x" * 50_000)

    assert (answer.status_code, answer.content) == (200, b"done")


@pytest.mark.parametrize("body", (b"", b"body"), ids=("get", "post"))
async def test_a_connection_that_closes_after_a_refusal_takes_no_second_attempt(*, body: bytes, rig: Rig) -> None:
    """It keeps the connection open in words, and is gone when the request comes again."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if connection.number:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            await connection.head()
            return
        await connection.send(b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n")
        await connection.reader.read(1)  # the next request, or the end

    async with RawUpstream(script) as upstream, http1_gateway(rig, upstream, "alice", "bob") as (_, api):
        answer = await api.request("POST" if body else "GET", "/x", content=body)

    assert (answer.status_code, answer.content) == (200, b"done")


# --- answers that break off -----------------------------------------------------------------------------------------

CUT = {
    "short": b"HTTP/1.1 %d No\r\nContent-Length: 100\r\n\r\nonly this",
    "bad-chunk": b"HTTP/1.1 %d No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\nnonsense\r\n",
    "no-last-chunk": b"HTTP/1.1 %d No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
}


@pytest.mark.parametrize("status", (401, 429))
@pytest.mark.parametrize("kind", tuple(CUT))
async def test_a_refusal_whose_body_breaks_off_is_a_refusal(*, kind: str, status: int, rig: Rig) -> None:
    """The head told enough: the token is refreshed, or another account has its turn; the client sees none of it."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if connection.number:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            await connection.head()
            return
        await connection.send(CUT[kind] % status)

    async with RawUpstream(script) as upstream, http1_gateway(rig, upstream, "alice", "bob") as (gateway, api):
        answer = await api.post("/x", content=b"body")
        posts, error = rig.posts, gateway.finished[0].error

    assert (answer.status_code, answer.content, error) == (200, b"done", None)
    assert posts == (status == 401)


@pytest.mark.parametrize("code", (0, 2, 8), ids=("no-error", "internal-error", "cancel"))
async def test_a_refusal_that_is_reset_over_http2_is_a_refusal(
    *, code: int, rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """HEADERS 401, a piece of the body, RST_STREAM."""

    def at_end(stream: ScriptedStream) -> None:
        if stream.bearer in rig.provider:
            stream.head(200)
            stream.data(b"done", end=True)
        else:
            stream.head(401)
            stream.data(b"only this")
            stream.reset(code)

    async with (
        Http2Upstream(authority.server_context(http2=True), at_end=at_end) as upstream,
        http2_gateway(rig, upstream, authority, confdir) as (_, api),
    ):
        rig.provider.expire("alice")
        answer = await api.post(f"{upstream.url}/x", content=b"body")

    assert (answer.status_code, answer.content) == (200, b"done")


async def test_a_refusal_that_broke_off_and_leads_to_no_other_attempt_is_a_502(rig: Rig) -> None:
    """A piece of an answer is no answer; the client's connection ends with it in good order."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(CUT["short"] % 403)

    rule = {"status": 403, "means": "forbidden"}
    async with RawUpstream(script) as upstream, http1_gateway(rig, upstream, answers=[rule]) as (gateway, api):
        answer = await api.post("/x", content=b"body")
        await gateway.wait_until(lambda: gateway.finished)
        error = gateway.finished[0].error

    assert answer.status_code == 502
    assert error is not None


async def test_a_refusal_that_broke_off_for_the_last_account_is_told_by_the_gateway(rig: Rig) -> None:
    """Nobody else can serve: what the client gets is whole, and is ours."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(CUT["short"] % 429)

    async with RawUpstream(script) as upstream, http1_gateway(rig, upstream) as (_, api):
        answer = await api.post("/x", content=b"body")

    assert (answer.status_code, answer.headers["authpool-error"]) == (503, "pool_exhausted")


# --- a client that has not sent everything yet ----------------------------------------------------------------------


class Upload:
    """A body whose second half waits for the test."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"first"
        await self.go.wait()
        yield b"rest"


@pytest.mark.parametrize("then", (reset_at_once, nothing), ids=lambda then: then.__name__)
async def test_an_early_answer_to_a_streamed_upload_reaches_the_client_whole(
    *, then: Any, rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """It can't be sent again; the answer comes at once with its end, while the upload is still open."""

    def at_head(stream: ScriptedStream) -> None:
        stream.head(400, ("content-type", "application/grpc"))
        stream.data(b"too much", end=True)
        then(stream)

    upload = Upload()
    async with (
        Http2Upstream(authority.server_context(http2=True), at_head=at_head) as upstream,
        http2_gateway(rig, upstream, authority, confdir) as (gateway, api),
    ):
        asked = asyncio.create_task(
            api.post(f"{upstream.url}/x", content=upload, headers={"content-type": "application/grpc"})
        )
        await gateway.wait_until(lambda: gateway.finished)
        upload.go.set()
        answer = await asked
        again = await api.post(f"{upstream.url}/x", content=b"", headers={"content-type": "application/grpc"})

    assert (answer.status_code, answer.content) == (400, b"too much")
    assert again.status_code == 400


async def test_the_end_of_an_early_answer_does_not_wait_for_the_end_of_the_upload(rig: Rig) -> None:
    """A client that waits for the one before the other gets both, and its connection goes on."""

    async def script(connection: RawConnection) -> None:
        while await connection.head():
            await connection.send(b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nearl\r\n0\r\n\r\n")
            await connection.reader.readexactly(8)

    async with RawUpstream(script) as upstream, http1_gateway(rig, upstream) as (gateway, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc\r\nContent-Length: 8\r\n\r\n"
        for _ in range(2):
            writer.write(head + b"half")
            assert b" 400 " in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\nearl\r\n0\r\n\r\n"
            writer.write(b"rest")
        writer.close()
        await writer.wait_closed()
