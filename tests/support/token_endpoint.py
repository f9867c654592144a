"""A token endpoint that answers exactly what a test tells it to."""

import inspect
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from support.answers import JSON, Reset
from support.exchange import Answer, Request
from support.server import HttpServer

type Form = dict[str, str]
type Script = Sequence[Answer] | Callable[[int, Form], Answer | Awaitable[Answer]]
"""The answers in order, or a function of the request's number (from 0) and its form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPost:
    """A request to the token endpoint; `at` is monotonic seconds."""

    form: Form = field(repr=False)
    request: Request = field(repr=False)
    at: float


class ScriptedTokenEndpoint:
    """A real HTTP server at `url`; `received` holds every request that was read, in order.

    A list that runs out is a test's mistake, or the very thing it looks for: the request is answered 500,
    and leaving the context raises AssertionError.
    """

    def __init__(self, script: Script = (), *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.received: list[TokenPost] = []
        self.server = HttpServer(self, tls)
        self._played = 0
        self._overrun = 0

    @property
    def url(self) -> str:
        return f"{self.server.url}/token"

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, kind: object, *rest: object) -> None:
        await self.server.stop()
        if kind is None and self._overrun:
            raise AssertionError(f"{self._overrun} request(s) more than the token endpoint's script has answers")

    def greet(self) -> Answer | None:
        """Play a `Reset(before_reading=True)` that is next in a list; no request is recorded for it."""
        if callable(self.script) or self._played >= len(self.script):
            return None
        answer = self.script[self._played]
        if not (isinstance(answer, Reset) and answer.before_reading):
            return None
        self._played += 1
        return answer

    async def answer(self, request: Request) -> Answer:
        """Record the request and take the next answer."""
        number = len(self.received)
        post = TokenPost(form=request.form, request=request, at=request.at)
        self.received.append(post)
        if callable(self.script):
            answer = self.script(number, post.form)
            return await answer if inspect.isawaitable(answer) else answer
        if self._played >= len(self.script):
            self._overrun += 1
            return JSON(500, {"error": "server_error", "error_description": "the test's script has run out"})
        self._played += 1
        return self.script[self._played - 1]


@contextmanager
def refused_url() -> Iterator[str]:
    """Give a token URL where nobody listens, and nobody else can begin to meanwhile: connection refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/token"
