"""What a test server can answer, from the right thing to everything that goes wrong on a real network.

Each plays on any `Reply`: JSON(401, {...}), Reset(), Slow(gate, JSON(...)). `Raw` and `Cut` need HTTP/1.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from support.exchange import Answer, Reply

_JSON = {"content-type": "application/json"}
_HTML = {"content-type": "text/html; charset=utf-8"}
_BLOCK = 65536


async def send(reply: Reply, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send a complete answer of known length."""
    await reply.head(status, headers, len(body))
    if body:
        await reply.data(body)
    await reply.end()


@dataclass(frozen=True, slots=True)
class JSON:
    """A JSON answer."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)

    async def play(self, reply: Reply) -> None:
        await send(reply, self.status, _JSON | dict(self.headers), json.dumps(self.body).encode())


@dataclass(frozen=True, slots=True)
class HTML:
    """A page where JSON was expected: a captive portal, a firewall."""

    status: int = 200
    text: str = "<!doctype html><title>Sign in to the network</title>"

    async def play(self, reply: Reply) -> None:
        await send(reply, self.status, _HTML, self.text.encode())


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect that nobody should follow."""

    location: str
    status: int = 302

    async def play(self, reply: Reply) -> None:
        await send(reply, self.status, {"location": self.location}, b"")


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes and nothing else, then the connection is closed."""

    data: bytes

    async def play(self, reply: Reply) -> None:
        await reply.raw(self.data)
        await reply.close()


@dataclass(frozen=True, slots=True)
class Nothing:
    """The request is read and the connection closed without a word."""

    async def play(self, reply: Reply) -> None:
        await reply.close()


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is broken off (RST), after the request was read or before."""

    before_reading: bool = False

    async def play(self, reply: Reply) -> None:
        await reply.reset()


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer, ever; the connection stays open until the client or the server closes it."""

    async def play(self, reply: Reply) -> None:
        await reply.gone()
        await reply.close()


@dataclass(frozen=True, slots=True)
class Cut:
    """The first half of a JSON answer, then the connection is closed: the promised length never arrives."""

    status: int
    body: object

    async def play(self, reply: Reply) -> None:
        body = json.dumps(self.body).encode()
        await reply.head(self.status, _JSON, len(body))
        await reply.data(body[: len(body) // 2])
        await reply.close()


@dataclass(frozen=True, slots=True)
class Big:
    """A JSON object of at least `size` bytes: 10 MB unless told otherwise."""

    status: int = 200
    size: int = 10_000_000

    async def play(self, reply: Reply) -> None:
        start, end = b'{"access_token": "', b'"}'
        await reply.head(self.status, _JSON, len(start) + self.size + len(end))
        await reply.data(start)
        for offset in range(0, self.size, _BLOCK):
            await reply.data(b"x" * min(_BLOCK, self.size - offset))
        await reply.data(end)
        await reply.end()


@dataclass(frozen=True, slots=True)
class Slow:
    """Another answer, but not before the test sets `gate`."""

    gate: asyncio.Event
    then: Answer

    async def play(self, reply: Reply) -> None:
        await self.gate.wait()
        await self.then.play(reply)


@dataclass(frozen=True, slots=True)
class Echo:
    """200 and JSON that tells what was received: method, target, headers (pairs), body (text)."""

    async def play(self, reply: Reply) -> None:
        request = reply.request
        told = {
            "method": request.method,
            "target": request.target,
            "headers": request.headers,
            "body": request.body.decode("utf-8", "replace"),
        }
        await JSON(200, told).play(reply)
