"""HTTP/1.1 on a server's side of a socket, small enough to misbehave on purpose."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus

from support.exchange import Handler, Request

_LINGER_ZERO = struct.pack("ii", 1, 0)


class Http1Reply:
    """A `Reply` over HTTP/1.1."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.reader = reader
        self.writer = writer
        self._chunked = False

    async def head(self, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
        self._chunked = length is None
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        reason = HTTPStatus(status).phrase if status in HTTPStatus else "Unknown"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{k}: {v}" for k, v in headers.items()), framing, "", ""]
        await self.raw("\r\n".join(lines).encode())

    async def data(self, chunk: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    async def end(self) -> None:
        if self._chunked:
            await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()

    async def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.writer.transport.abort()

    async def gone(self) -> None:
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


async def serve_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """Answer requests on this connection until either side closes it."""
    while first := await reader.read(1):
        if greeting := handler.greet():
            unread = Request(method="", target="", headers=[])
            await greeting.play(Http1Reply(unread, reader, writer))
        else:
            request = await _read_request(first, reader)
            answer = await handler.answer(request)
            await answer.play(Http1Reply(request, reader, writer))
        if writer.is_closing():
            return


async def _read_request(first: bytes, reader: asyncio.StreamReader) -> Request:
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _version = request_line.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    request = Request(method=method, target=target, headers=headers)
    body = await _read_body(request, reader)
    return Request(method=method, target=target, headers=headers, body=body)


async def _read_body(request: Request, reader: asyncio.StreamReader) -> bytes:
    if "chunked" not in (request.header("transfer-encoding") or "").lower():
        return await reader.readexactly(int(request.header("content-length") or 0))
    body = bytearray()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return bytes(body)
