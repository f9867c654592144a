"""The API behind the gateway: it wants tokens, writes down what it received, answers what a test tells it."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Container
from typing import Self

from support.answers import JSON, Echo
from support.exchange import Answer, Request
from support.server import HttpServer

UNAUTHORIZED = JSON(401, {"error": "invalid_token"}, {"www-authenticate": 'Bearer error="invalid_token"'})


class Upstream:
    """A real server at `url`; `received` holds every request exactly as it arrived, refused ones too.

    Without `accept` every request is let in. One that is let in gets the next answer queued with `then`, else
    what `respond` makes of it: an `Echo` unless told otherwise. With a TLS context of
    `CertificateAuthority.server_context(http2=True)` it speaks HTTP/2.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Request] = []
        self.server = HttpServer(self, tls)
        self.refusal: Answer = UNAUTHORIZED
        self.respond: Callable[[Request], Answer] = lambda _request: Echo()
        self.credential_of: Callable[[Request], str | None] = lambda request: request.bearer
        self._accepted: Container[str] | None = None
        self._queue: deque[Answer] = deque()

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def authority(self) -> str:
        """``host:port``, as `hosts` in authpool.toml has it."""
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.server.stop()

    def accept(self, tokens: Container[str]) -> None:
        """Let in only these tokens from now on; a live container (a RotatingProvider) is asked each time."""
        self._accepted = tokens

    def then(self, *answers: Answer) -> None:
        """Queue answers for the next requests that are let in, one each."""
        self._queue.extend(answers)

    def forget_answers(self) -> None:
        """Drop what is queued and was not asked for."""
        self._queue.clear()

    def greet(self) -> Answer | None:
        return None

    async def answer(self, request: Request) -> Answer:
        """Record the request and choose its answer."""
        self.received.append(request)
        if self._accepted is not None and self.credential_of(request) not in self._accepted:
            return self.refusal
        return self._queue.popleft() if self._queue else self.respond(request)

    async def wait_for_requests(self, count: int, deadline_seconds: float = 30.0) -> None:
        """Wait until so many requests have been received."""
        async with asyncio.timeout(deadline_seconds):
            while len(self.received) < count:
                await asyncio.sleep(0.002)
