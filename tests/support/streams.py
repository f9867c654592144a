"""Answers that take their time: event streams, line streams, gRPC, WebSocket. A test sets the pace."""

import asyncio
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import generate_accept_token

from support.exchange import Reply
from support.http1 import Http1Reply


class PacedStream:
    """Pieces of a body: the first at once, each later one when the test has set `gate` (which clears again).

    Without a gate they follow each other at once. `produced` counts the pieces that were sent, so a test can
    show that the client had the first before there was a second.
    """

    def __init__(self, pieces: Sequence[bytes], content_type: str, gate: asyncio.Event | None = None) -> None:
        self.pieces = pieces
        self.content_type = content_type
        self.gate = gate
        self.produced = 0

    async def play(self, reply: Reply) -> None:
        await reply.head(200, {"content-type": self.content_type, "cache-control": "no-store"})
        for number, piece in enumerate(self.pieces):
            if number and self.gate:
                await self.gate.wait()
                self.gate.clear()
            self.produced += 1
            await reply.data(piece)
        await reply.end()


def event_stream(count: int = 3, gate: asyncio.Event | None = None) -> PacedStream:
    """Make server-sent events ``data: {"n": 0}`` and so on."""
    pieces = [b"data: %s\n\n" % json.dumps({"n": n}).encode() for n in range(count)]
    return PacedStream(pieces, "text/event-stream", gate)


def line_stream(count: int = 3, gate: asyncio.Event | None = None) -> PacedStream:
    """Make newline-delimited JSON, ``{"n": 0}`` and so on."""
    pieces = [json.dumps({"n": n}).encode() + b"\n" for n in range(count)]
    return PacedStream(pieces, "application/x-ndjson", gate)


def grpc_stream(messages: Sequence[bytes] = (b"hello",), gate: asyncio.Event | None = None) -> PacedStream:
    """Make length-prefixed messages as gRPC frames them; no trailers."""
    pieces = [struct.pack(">BI", 0, len(message)) + message for message in messages]
    return PacedStream(pieces, "application/grpc", gate)


def slow_body(
    first: bytes, rest: bytes, gate: asyncio.Event, content_type: str = "application/octet-stream"
) -> PacedStream:
    """Make a body whose second half waits for the test."""
    return PacedStream([first, rest], content_type, gate)


@dataclass(frozen=True, slots=True)
class GrpcStatus:
    """A gRPC answer without messages: HTTP 200 and a status (16: unauthenticated) in the headers."""

    status: int = 16
    message: str = "unauthenticated"

    async def play(self, reply: Reply) -> None:
        headers = {
            "content-type": "application/grpc",
            "grpc-status": str(self.status),
            "grpc-message": self.message,
        }
        await reply.head(200, headers, 0)
        await reply.end()


@dataclass(frozen=True, slots=True)
class WebSocketEcho:
    """Accepts a WebSocket (RFC 6455) and sends every message back. HTTP/1 only."""

    async def play(self, reply: Reply) -> None:
        if not isinstance(reply, Http1Reply):
            raise NotImplementedError("WebSocket over HTTP/2 is not spoken here")
        accept = generate_accept_token((reply.request.header("sec-websocket-key") or "").encode()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: upgrade"]
        await reply.raw("\r\n".join([*lines, f"sec-websocket-accept: {accept}", "", ""]).encode())
        frames = Connection(ConnectionType.SERVER)
        while data := await reply.reader.read(65536):
            frames.receive_data(data)
            for event in frames.events():
                if (echo := _echo(event)) is not None:
                    await reply.raw(frames.send(echo))
        await reply.close()


def _echo(event: Event) -> Event | None:
    match event:
        case TextMessage():
            return TextMessage(event.data, message_finished=event.message_finished)
        case BytesMessage():
            return BytesMessage(event.data, message_finished=event.message_finished)
        case Ping() | CloseConnection():
            return event.response()
    return None
