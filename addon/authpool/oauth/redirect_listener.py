"""The listener on loopback that a browser brings the answer of a sign-in to (RFC 8252 §7.3, §8.3).

Whatever else connects is answered and forgotten: a favicon, a scanner, another tab, half a request. Only a GET of the
path that was agreed on, with the state of this sign-in, counts.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Self

from authpool.config.pool_config import SignInConfig
from authpool.errors import RefusedError
from authpool.oauth.authorization import StrayAnswerError
from authpool.oauth.redirect_page import MALFORMED, NOT_ALLOWED, NOT_FOUND, Page, done_page, failed_page, stray_page

MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0
FAREWELL_SECONDS = 3.0
"""So long a browser is waited for that takes its page slowly, when all is over."""
MAX_CONNECTIONS = 50
_LOOPBACK = ("127.0.0.1", "::1")
_TRIES = 20

type ReadCode = Callable[[str], str]
"""Reads the code from a query. Raises StrayAnswerError, or RefusedError when the sign-in is over without one."""


class RedirectListener:
    """Listens from `open` to its end; `redirect_uri` is what the provider is told.

    `code` waits for the answer; `succeed` or `fail` says what became of it, to every page that waits.
    """

    def __init__(self, config: SignInConfig, sockets: list[socket.socket]) -> None:
        self.port: int = sockets[0].getsockname()[1]
        self.redirect_uri = f"http://{config.redirect_host}:{self.port}{config.redirect_path}"
        self._path = config.redirect_path
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}
        """Those of them that have not asked for anything yet, the oldest first."""
        self._closed = False
        self._read: ReadCode | None = None
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._outcome: asyncio.Future[Page] = asyncio.get_running_loop().create_future()

    @classmethod
    @asynccontextmanager
    async def open(cls, config: SignInConfig, port: int | None = None) -> AsyncIterator[Self]:
        """Listen on both loopback addresses, on `port` or those that are configured, else on any that is free.

        Raises RefusedError when the ports are taken.
        """
        listener = cls(config, bound(config.redirect_ports if port is None else (port,)))
        try:
            for one in listener._sockets:
                listener._servers.append(await asyncio.start_server(listener._connected, sock=one))
            yield listener
        finally:
            await listener._close()

    async def code(self, read: ReadCode) -> str:
        """Wait for the answer that `read` accepts. Raises RefusedError when that says no."""
        self._read = read
        return await asyncio.shield(self._code)

    def succeed(self, sentence: str) -> None:
        self._tell(done_page(sentence))

    def fail(self, reason: str) -> None:
        self._tell(failed_page(reason))

    def _tell(self, page: Page) -> None:
        if not self._outcome.done():
            self._outcome.set_result(page)

    async def _close(self) -> None:
        """Free the port at once; pages that are known are still delivered to whoever has asked for one."""
        self._closed = True
        for server in self._servers:
            server.close()
        for one in self._sockets:
            one.close()
        for task in list(self._silent):
            task.cancel()
        if self._outcome.done() and self._connections:
            await asyncio.wait(set(self._connections), timeout=FAREWELL_SECONDS)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # what was accepted a moment ago hears that all is over
        for future in (self._code, self._outcome):
            future.cancel()
        if self._code.done() and not self._code.cancelled():
            self._code.exception()  # it was told already, or the time was up before

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection, which is closed whatever becomes of it, also where nothing of it was read yet."""
        if self._closed or not self._has_room():
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="authpool redirect")
        self._connections.add(task)
        self._silent[task] = None
        task.add_done_callback(partial(self._over, writer))

    def _over(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._silent.pop(task, None)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever that was may leave, or say too much or too little.
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await _head(reader)
            task = asyncio.current_task()
            if task is not None:
                self._silent.pop(task, None)
            await self._answer(head, reader, writer)

    def _has_room(self) -> bool:
        """Whether one more connection is taken: the one that has said nothing for longest makes room for it."""
        if len(self._connections) < MAX_CONNECTIONS:
            return True
        oldest = next(iter(self._silent), None)
        if oldest is None:
            return False
        del self._silent[oldest]
        self._connections.discard(oldest)
        oldest.cancel()
        return True

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, page = await self._page(head)
        writer.write(page.response(with_body=method != "HEAD"))
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()  # what is still unread would turn the close into a reset, and the page be lost
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(1):
                while await reader.read(4096):
                    pass

    async def _page(self, head: bytes) -> tuple[str, Page]:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "", MALFORMED
        method, target = words[0], words[1]
        if target.startswith(("http://", "https://")):  # absolute form, as proxies are asked
            target = "/" + target.split("/", 3)[-1] if target.count("/") > 2 else "/"
        path, _, query = target.partition("?")
        if path != self._path:
            return method, NOT_FOUND
        if method != "GET":
            return method, NOT_ALLOWED
        return method, await self._answered(query)

    async def _answered(self, query: str) -> Page:
        """Take an answer of the provider, and wait for what becomes of it."""
        if self._read is None:
            return stray_page("none has begun yet")
        try:
            code = self._read(query)
        except StrayAnswerError as stray:
            return stray_page(str(stray))
        except RefusedError as refused:
            if self._code.done():
                return await asyncio.shield(self._outcome)
            self._code.set_exception(refused)
            return failed_page(str(refused))
        if not self._code.done():
            self._code.set_result(code)
        return await asyncio.shield(self._outcome)


def bound(ports: tuple[int, ...]) -> list[socket.socket]:
    """Bind one port on 127.0.0.1 and, where this machine has it, on ::1. Raises RefusedError."""
    for port in ports or (0,) * _TRIES:
        sockets = _bound_on_both(port)
        if sockets:
            return sockets
    if not ports:
        raise RefusedError("no port is free on 127.0.0.1 and ::1 for the sign-in to come back to")
    named = " and ".join(map(str, ports))
    raise RefusedError(
        f"port {named} is taken on this machine, and the sign-in comes back to no other: end what listens there, or "
        "name another that is registered at the provider with --port or `redirect_ports`"
    )


def _bound_on_both(port: int) -> list[socket.socket]:
    """Both sockets, that of IPv4 alone where there is no IPv6, or none when the port is taken."""
    sockets: list[socket.socket] = []
    for address in _LOOPBACK:
        try:
            sockets.append(_bound(address, port or (sockets[0].getsockname()[1] if sockets else 0)))
        except OSError as error:
            if address == _LOOPBACK[1] and error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                break
            for one in sockets:
                one.close()
            return []
    return sockets


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
        one.listen(16)
    except OSError:
        one.close()
        raise
    return one


async def _head(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(HEAD_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
    if len(head) > MAX_HEAD_BYTES:
        raise asyncio.LimitOverrunError("the head is too long", 0)
    return head
