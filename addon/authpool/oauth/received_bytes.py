"""The bytes of an exchange as they came off the connection, for an answer that the HTTP library refuses to read.

One bad header line is enough for that, and a refresh token that exists nowhere else may stand behind it. What came is
kept for as long as its exchange lasts, up to a limit, and is shown nowhere.
"""

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

MAX_RECEIVED_BYTES = 1024 * 1024
SILENCE_SECONDS = 1.0
"""The rest of an answer that can't be read as HTTP is here when nothing more came for so long: no length is sure."""
_PIECE_BYTES = 65536

_current: ContextVar["ReceivedBytes | None"] = ContextVar("authpool_received_bytes", default=None)


class ReceivedBytes:
    """What comes on the connection that is opened within this context; it stays open until the context ends."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._connections: list[Any] = []

    async def __aenter__(self) -> Self:
        self._token = _current.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        self.data = bytearray()
        while self._connections:
            with suppress(Exception):  # whatever it says: nobody uses it any more
                await self._connections.pop().aclose()

    async def read_on(self, seconds: float) -> None:
        """Read what still comes, where the HTTP library has given up; not for longer than that."""
        with suppress(Exception):  # whatever ends it: what is there is there
            async with asyncio.timeout(seconds):
                await self._read_on()

    async def _read_on(self) -> None:
        while len(self.data) < MAX_RECEIVED_BYTES and self._connections:
            piece = await self._connections[-1].read(_PIECE_BYTES, SILENCE_SECONDS)
            if not piece:
                return
            self.received(piece)

    def opened(self, stream: Any) -> None:
        self._connections.append(stream)

    def secured(self, stream: Any, within: Any) -> None:
        """TLS was begun on a connection: closing it closes both."""
        self._connections = [one for one in self._connections if one is not stream] + [within]

    def received(self, piece: bytes) -> None:
        self.data += piece[: MAX_RECEIVED_BYTES - len(self.data)]


def recorded(transport: Any) -> Any:
    """Have an `httpx` transport open its connections so that what they receive is kept."""
    pool: Any = getattr(transport, "_pool", None)
    if hasattr(pool, "_network_backend"):  # no public way leads there
        pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001
    return transport


class _Backend:
    """httpcore's network backend; nothing but `connect_tcp` is of another kind."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def connect_tcp(self, *arguments: Any, **options: Any) -> Any:
        stream, record = await self._backend.connect_tcp(*arguments, **options), _current.get()
        if record is None:
            return stream
        record.opened(stream)
        return _Stream(stream, record)


class _Stream:
    """httpcore's network stream; what is read is kept, and it is closed when its exchange is over."""

    def __init__(self, stream: Any, record: ReceivedBytes) -> None:
        self._stream = stream
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        piece: bytes = await self._stream.read(max_bytes, timeout)
        self._record.received(piece)
        return piece

    async def start_tls(self, *arguments: Any, **options: Any) -> "_Stream":
        within = await self._stream.start_tls(*arguments, **options)
        self._record.secured(self._stream, within)
        return _Stream(within, self._record)

    async def aclose(self) -> None:
        """Not yet: the rest of an answer may be wanted."""
