"""One request and the answer to it, whatever version of HTTP carries them."""

import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request exactly as it was received: names as spelt, in order, repeated ones kept."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> Mapping[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def form(self) -> dict[str, str]:
        """The body as application/x-www-form-urlencoded; a repeated field keeps its last value."""
        return {
            name: values[-1]
            for name, values in parse_qs(self.body.decode(errors="replace"), keep_blank_values=True).items()
        }

    @property
    def bearer(self) -> str | None:
        """The access token of the Authorization header (RFC 6750 §2.1)."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next(iter(self.all_headers(name)), None)

    def all_headers(self, name: str) -> list[str]:
        """Every header of that name, for telling a credential that was replaced from one that was added."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Reply(Protocol):
    """What an answer can do to a connection. Every method may raise ConnectionError: the client has left."""

    @property
    def request(self) -> Request: ...

    async def head(self, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
        """Send status and headers; without a `length` the body is a stream of unknown size."""

    async def data(self, chunk: bytes) -> None:
        """Send a piece of the body, at once."""

    async def end(self) -> None:
        """The body is complete; the connection stays open."""

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are (HTTP/1 only)."""

    async def close(self) -> None:
        """Close the connection in good order."""

    async def reset(self) -> None:
        """Break it off: TCP RST, or RST_STREAM in HTTP/2."""

    async def gone(self) -> None:
        """Wait until the client has left."""


class Answer(Protocol):
    """Something a test server does with a request."""

    async def play(self, reply: Reply) -> None: ...


class Handler(Protocol):
    """What decides on the answers of a server."""

    def greet(self) -> Answer | None:
        """Asked when a request begins to arrive; an answer here is played before the request is read."""

    def answer(self, request: Request) -> Awaitable[Answer]:
        """Asked when a request has been read."""
