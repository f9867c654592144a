"""What mitmproxy alone leaves out of HTTP/1, and what would leave a client without an answer."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import h11
import httpx
import pytest

from support.certificates import CertificateAuthority
from support.gateway import RunningGateway
from support.pool_rig import Rig, client, gateway_master
from support.scripted import RawConnection, RawUpstream

pytestmark = pytest.mark.mitmproxy

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
TRAILERS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\nX-Sum: abc\r\nContent-Length: 9\r\n\r\n"
)


class Answers:
    """Answers every request on a connection with these bytes, and keeps the connection."""

    def __init__(self, answer: bytes, first: bytes = b"") -> None:
        self.answer, self.first = answer, first
        self.heads: list[bytes] = []

    async def __call__(self, connection: RawConnection) -> None:
        if connection.number == 0 and self.first:
            await connection.request()
            await connection.send(self.first)
        while head := await connection.head():
            self.heads.append(head)
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await connection.reader.readexactly(int(length or 0))
            await connection.send(self.answer)


async def ask(port: int, request: bytes) -> tuple[h11.Response, bytes, list[tuple[bytes, bytes]]]:
    """Send a request on a connection of its own; give answer, body and trailers. Interim answers are passed over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    parser = h11.Connection(our_role=h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    writer.write(request)
    response, body = None, b""
    try:
        while True:
            match parser.next_event():
                case h11.NEED_DATA:
                    parser.receive_data(await reader.read(65536))
                case h11.Response() as response:
                    pass
                case h11.Data(data=data):
                    body += bytes(data)
                case h11.EndOfMessage(headers=trailers):
                    assert response is not None
                    return response, body, list(trailers)
    finally:
        writer.close()
        await writer.wait_closed()


# --- interim answers ------------------------------------------------------------------------------------------------

INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
    "102-and-103": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
}


@pytest.mark.parametrize("kind", tuple(INTERIM))
async def test_an_interim_answer_is_not_the_answer(kind: str, rig: Rig) -> None:
    """The connection stays in step: every request gets its own answer."""
    async with RawUpstream(Answers(INTERIM[kind] + ANSWER)) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            answers = [await api.post("/x", content=b"body") for _ in range(2)]

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"done")] * 2


async def test_an_interim_answer_that_comes_in_pieces_is_not_the_answer(rig: Rig) -> None:
    """One byte at a time, and before a 401 that leads to another attempt."""

    async def script(connection: RawConnection) -> None:
        answer = ANSWER if connection.number else b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
        await connection.request()
        for byte in INTERIM["103"] + answer:
            await connection.send(bytes([byte]))
        await connection.head()

    async with RawUpstream(script) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            answer = await api.get("/x")

    assert (answer.status_code, answer.content) == (200, b"done")


EXPECTS = b"POST /x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"


async def test_a_client_that_waits_for_100_sends_its_body_and_gets_the_answer(rig: Rig) -> None:
    """`Expect: 100-continue` is answered here, whatever the upstream does."""
    async with RawUpstream(Answers(INTERIM["100"] + ANSWER)) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            for _ in range(2):
                writer.write(EXPECTS)
                assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
                writer.write(b"body")
                assert await reader.readexactly(len(ANSWER)) == ANSWER
            writer.close()
            await writer.wait_closed()


async def test_a_client_that_waited_for_100_hears_of_an_upstream_that_is_gone(rig: Rig) -> None:
    """A 100 is not yet the answer: a 502 may follow it."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    rig.host = f"127.0.0.1:{port}"
    rig.home("alice")
    settings = {"mode": f"reverse:http://127.0.0.1:{port}", "connection_strategy": "lazy"}
    async with gateway_master(rig.path, **settings) as gateway:
        response, _, _ = await ask(gateway.port, EXPECTS + b"body")
    assert response.status_code == 502


# --- trailers -------------------------------------------------------------------------------------------------------


async def test_trailers_of_a_chunked_answer_reach_a_client_of_http1(rig: Rig) -> None:
    """But not what says how long the message is; and the upstream's connection serves again."""
    async with RawUpstream(Answers(TRAILERS)) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            _, body, trailers = await ask(gateway.port, b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers = [await api.get("/x") for _ in range(2)]
            shown = gateway.finished[0].response

    assert (body, trailers) == (b"done", [(b"x-sum", b"abc")])
    assert [answer.content for answer in answers] == [b"done"] * 2
    assert upstream.connections_made == 2
    assert shown is not None
    assert shown.trailers is not None
    assert shown.trailers["x-sum"] == "abc"


async def test_trailers_of_a_refusal_do_not_keep_the_request_from_going_on(rig: Rig) -> None:
    """A 401 whose body ends in trailers is a 401."""
    async with RawUpstream(Answers(ANSWER, first=TRAILERS.replace(b"200 OK", b"401 No"))) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            answer = await api.get("/x")
    assert (answer.status_code, answer.content) == (200, b"done")


async def test_trailers_of_a_chunked_request_reach_the_upstream(rig: Rig) -> None:
    """They are no place for a credential."""
    received = bytearray()

    async def script(connection: RawConnection) -> None:
        await connection.head()
        received.extend(await connection.reader.readuntil(b"0\r\n"))
        received.extend(await connection.reader.readuntil(b"\r\n\r\n"))
        await connection.send(ANSWER)
        await connection.head()

    request = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n"
    async with RawUpstream(script) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway:
            _, body, _ = await ask(gateway.port, request + b"X-Sum: abc\r\nAuthorization: mine\r\n\r\n")

    assert body == b"done"
    assert bytes(received) == b"4\r\nbody\r\n0\r\nx-sum: abc\r\n\r\n"


async def test_trailers_of_http1_reach_a_client_of_http2(
    rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """The one writes them after the last chunk, the other has frames for them."""
    async with (
        RawUpstream(Answers(TRAILERS), authority.server_context()) as upstream,
        http2_client(rig, upstream, authority, confdir) as (gateway, api),
    ):
        answers = [await api.get("/x") for _ in range(2)]
        shown = gateway.finished[0].response

    assert [(answer.http_version, answer.content) for answer in answers] == [("HTTP/2", b"done")] * 2
    assert shown is not None
    assert shown.trailers is not None


class _OnlyHttp2(ssl.SSLContext):
    """Offers HTTP/2 alone, where httpx would offer HTTP/1.1 first."""

    def __new__(cls, ca_file: Path) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, ca_file: Path) -> None:
        self.load_verify_locations(ca_file)
        super().set_alpn_protocols(["h2"])

    def set_alpn_protocols(self, alpn_protocols: object) -> None:
        pass


@asynccontextmanager
async def http2_client(
    rig: Rig, upstream: RawUpstream, authority: CertificateAuthority, confdir: Path
) -> AsyncIterator[tuple[RunningGateway, httpx.AsyncClient]]:
    """One connection of HTTP/2 to a gateway whose upstream need not be there."""
    rig.host = upstream.authority
    rig.home("alice")
    settings = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "connection_strategy": "lazy"}
    async with gateway_master(rig.path, mode=f"reverse:{upstream.url}", confdir=confdir, **settings) as gateway:
        url = f"https://localhost:{gateway.port}"
        async with client(url, verify=_OnlyHttp2(confdir / "mitmproxy-ca-cert.pem"), http1=False, http2=True) as api:
            yield gateway, api


# --- an upstream that was away --------------------------------------------------------------------------------------


async def test_an_http2_client_gets_answers_again_once_the_upstream_is_back(
    rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """One failed connect is that request's 502, and not that of every request on the client's connection."""
    upstream = RawUpstream(Answers(ANSWER), authority.server_context())
    async with upstream:
        pass  # it has a port, and nobody listens there any more
    async with http2_client(rig, upstream, authority, confdir) as (gateway, api):
        away = [await api.get("/x") for _ in range(2)]
        async with upstream:
            back = [await api.get("/x") for _ in range(2)]
            clients = {flow.client_conn.id for flow in gateway.flows}

    assert [answer.status_code for answer in away] == [502, 502]
    assert [(answer.http_version, answer.status_code) for answer in back] == [("HTTP/2", 200)] * 2
    assert len(clients) == 1


async def test_a_certificate_that_was_wrong_once_is_not_wrong_for_ever(
    rig: Rig, authority: CertificateAuthority, confdir: Path, tmp_path: Path
) -> None:
    """A failed TLS handshake is a failed connect as well; and an upstream that proves nothing gets nothing."""
    (tmp_path / "stranger").mkdir()
    stranger = CertificateAuthority(tmp_path / "stranger")
    answers = Answers(ANSWER)
    upstream = RawUpstream(answers, stranger.server_context())
    async with upstream, http2_client(rig, upstream, authority, confdir) as (_, api):
        wrong = [await api.get("/x") for _ in range(2)]
        seen = len(answers.heads)
        await upstream.__aexit__()
        upstream.tls = authority.server_context()
        await upstream.__aenter__()
        right = [await api.get("/x") for _ in range(2)]

    assert ([answer.status_code for answer in wrong], seen) == ([502, 502], 0)
    assert [answer.status_code for answer in right] == [200, 200]


@pytest.mark.parametrize("answer", (b"", b"garbage\r\n\r\n", ANSWER[:-2]), ids=("nothing", "garbage", "half"))
async def test_the_failure_of_a_later_attempt_reaches_the_client(answer: bytes, rig: Rig) -> None:
    """A 401, and then an upstream that breaks the second attempt off: a 502, and no waiting for ever."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
        await connection.send(refusal if connection.number == 0 else answer)

    async with RawUpstream(script) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with gateway_master(rig.path, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            refused = await api.post("/x", content=b"body")

    assert refused.status_code == 502
