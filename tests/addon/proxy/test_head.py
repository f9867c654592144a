"""No answer to HEAD has a body, whoever gives it: a client that keeps its connection reads the next answer cleanly."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import h2.connection
import h2.events
import pytest
from mitmproxy import http

from authpool.proxy import wire
from authpool.proxy.gate import gateway_error
from support.gateway import RunningGateway, dump_master
from support.pool_rig import Rig, gateway_master, reverse_gateway
from support.token_endpoint import refused_url

pytestmark = pytest.mark.mitmproxy

HOST = "127.0.0.1"


class KeptConnection:
    """A client of one connection that reads each answer by its framing, and tells what was left over."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, method: str, target: str, host: str | None = None) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request, and read its answer: the body is as long as the framing says, and none for HEAD."""
        named = f"Host: {host}\r\n" if host is not None else ""
        self._writer.write(f"{method} {target} HTTP/1.1\r\n{named}\r\n".encode())
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            version, status, *_ = status_line.split(" ")
            assert version.startswith("HTTP/"), f"what follows is no answer: {head!r}"
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            size = 0 if method == "HEAD" else int(headers["content-length"])
            return int(status), headers, await self._reader.readexactly(size)

    async def end(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(10):
            return await self._reader.read()


async def check_head(port: int, target: str, host: str, code: str | None, status: int) -> None:
    """HEAD, HEAD, GET and HEAD again on one connection: each answer is the one that was asked for."""
    async with KeptConnection.to(port) as kept:
        answers = [await kept.ask(method, target, host) for method in ("HEAD", "HEAD", "GET", "HEAD")]
    assert [answer[0] for answer in answers] == [status] * 4
    assert {answer[1].get("authpool-error") for answer in answers} == {code}
    lengths = {answer[1]["content-length"] for answer in answers}
    assert lengths == {str(len(answers[2][2]))} != {"0"}  # RFC 9110 §9.3.2: what GET would be told, or nothing


async def test_a_refusal(rig: Rig) -> None:
    """No account is left."""
    rig.home()
    async with reverse_gateway(rig) as gateway:
        await check_head(gateway.port, "/x", rig.upstream.authority, "pool_exhausted", 503)
        assert [flow.response.raw_content for flow in gateway.finished if flow.request.method == "HEAD"] == [b""] * 3


async def test_a_refusal_after_the_upstream_has_answered(rig: Rig) -> None:
    """The token was refused, and there is no other."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, KeptConnection.to(gateway.port) as kept:
        rig.provider.revoke("alice")
        refused = await kept.ask("HEAD", "/x", rig.upstream.authority)
        status, headers, body = await kept.ask("GET", "/x", rig.upstream.authority)
    assert (refused[0], refused[1]["authpool-error"]) == (503, "pool_exhausted")
    assert refused[1]["content-length"] != "0"
    assert (status, headers["authpool-error"], body[:1]) == (503, "pool_exhausted", b"{")


async def test_health(rig: Rig) -> None:
    """And 404 beside it."""
    rig.home("alice")
    async with gateway_master(rig.path) as gateway:
        for path, status in (("/health", 200), ("/live", 200), ("/ready", 200), ("/ready?pool=q", 404), ("/x", 404)):
            await check_head(gateway.port, f"http://authpool.internal{path}", "authpool.internal", None, status)


class _Redirecting:
    """Sends each request elsewhere once it was decided about, so that the gate at the wire refuses it."""

    def request(self, flow: http.HTTPFlow) -> None:
        flow.request.path = "/elsewhere"


async def test_a_refusal_at_the_wire(rig: Rig) -> None:
    """The gate is asked when everybody else has had their say."""
    rig.home("alice", paths=["/x"])
    async with reverse_gateway(rig, _Redirecting()) as gateway:
        await check_head(gateway.port, "/x", rig.upstream.authority, "gateway_error", 500)
    assert rig.upstream.received == []


async def test_no_gate_at_all(rig: Rig, confdir: Path) -> None:
    """The script is broken, or was taken away: the wire answers by itself."""
    wire.close(gateway_error)
    async with dump_master(confdir=confdir, mode=f"reverse:{rig.upstream.url}") as gateway:
        await check_head(gateway.port, "/x", rig.upstream.authority, "gateway_error", 500)
    assert rig.upstream.received == []


async def test_an_exception_in_a_hook(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails inside ends in an answer of ours."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway:
        traffic = gateway.master.addons.get("authpool")._traffic
        monkeypatch.setattr(traffic, "take", _fails)
        await check_head(gateway.port, "/x", rig.upstream.authority, "gateway_error", 500)


async def _fails(_flow: http.HTTPFlow) -> None:
    raise RuntimeError("a fault of ours")


async def test_another_addons_answer(rig: Rig) -> None:
    """Whoever sets a body for HEAD, before the gateway or after it."""
    rig.home("alice")

    class Answering:
        def requestheaders(self, flow: http.HTTPFlow) -> None:
            flow.response = http.Response.make(200, b"a body that nobody asked for")

    async with gateway_master(rig.path, before=[Answering()], mode=f"reverse:{rig.upstream.url}") as gateway:
        await check_head(gateway.port, "/x", rig.upstream.authority, None, 200)


async def test_mitmproxys_own_error_page(rig: Rig, confdir: Path) -> None:
    """An upstream that can't be reached: the head of mitmproxy's page, and the end of the connection."""
    rig.home("alice")
    with refused_url() as url:
        target = f"{url}/x"
        async with gateway_master(rig.path, confdir=confdir) as gateway, KeptConnection.to(gateway.port) as kept:
            status, headers, _ = await kept.ask("HEAD", target, "x")
            rest = await kept.end()
    assert (status, headers["connection"], rest) == (502, "close", b"")


@pytest.mark.parametrize("lines", ("Host: x\r\nContent-Length: x", "Host: x\r\nTransfer-Encoding: x", "X: y"))
async def test_mitmproxys_page_for_a_request_it_does_not_understand(rig: Rig, lines: str) -> None:
    """A length that is none, a coding it does not know, no host: 400 without a page."""
    rig.home("alice")
    async with gateway_master(rig.path) as gateway:
        reader, writer = await asyncio.open_connection(HOST, gateway.port)
        writer.write(f"HEAD / HTTP/1.1\r\n{lines}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")


# --- HTTP/2 ---------------------------------------------------------------------------------------------------------


async def ask_http2(gateway: RunningGateway, context: ssl.SSLContext, target: str, count: int) -> list[tuple[int, int]]:
    """HEAD so many times on one connection; the status and the bytes of data of each answer."""
    reader, writer = await asyncio.open_connection(HOST, gateway.port, ssl=context, server_hostname="localhost")
    protocol = h2.connection.H2Connection()
    protocol.initiate_connection()
    answers = []
    for _ in range(count):
        stream = protocol.get_next_available_stream_id()
        fields = [(":method", "HEAD"), (":scheme", "https"), (":authority", "localhost"), (":path", target)]
        protocol.send_headers(stream, fields, end_stream=True)
        writer.write(protocol.data_to_send())
        answers.append(await _answer(protocol, reader, writer))
    writer.close()
    return answers


async def _answer(
    protocol: h2.connection.H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[int, int]:
    status, size = 0, 0
    async with asyncio.timeout(30):
        while True:
            for event in protocol.receive_data(await reader.read(65536)):
                match event:
                    case h2.events.ResponseReceived(headers=headers):
                        status = int(dict(headers or ())[b":status"])
                    case h2.events.DataReceived(data=data):
                        size += len(data or b"")
                    case h2.events.StreamEnded():
                        return status, size
            writer.write(protocol.data_to_send())


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


async def test_http2(rig: Rig, confdir: Path) -> None:
    """No data frame has anything in it; the connection goes on."""
    rig.home(gateway={"health_path": "/h"})
    async with gateway_master(rig.path, mode=f"reverse:{rig.upstream.url}", confdir=confdir) as gateway:
        assert await ask_http2(gateway, _context(), "/x", 3) == [(503, 0)] * 3
        assert await ask_http2(gateway, _context(), "/h/live", 2) == [(200, 0)] * 2


async def test_mitmproxys_own_error_page_over_http2(rig: Rig, confdir: Path) -> None:
    """To a client that knows HTTP/2, data after HEAD is an error of the whole connection."""
    rig.home(hosts=["api.example.com"])
    with refused_url() as url:
        async with gateway_master(
            rig.path, mode=f"reverse:{url.removesuffix('/token')}", confdir=confdir, connection_strategy="lazy"
        ) as gateway:
            assert await ask_http2(gateway, _context(), "/x", 2) == [(502, 0)] * 2
