"""A TCP shim in front of a token endpoint: it passes bytes, and now and then loses the answer on its way back."""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import parse_qs

from authpool.accounts.account import fingerprint

_CHUNK = 65536
_LONGEST_SECONDS = 30.0
DELAY_SECONDS = (0.05, 0.8)


class Fate(StrEnum):
    """What becomes of one connection. The last three lose an answer that the server has given."""

    PASS = "pass"
    DELAY = "delay"
    REFUSE = "refuse"
    """Reset once the request is read; the server never sees it."""
    DROP = "drop"
    RESET = "reset"
    CUT = "cut"


LOSSY = frozenset({Fate.DROP, Fate.RESET, Fate.CUT})


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One connection. Times are of the monotonic clock; `token` is the fingerprint of the refresh token presented.

    `client_port` is the client's end of the connection.
    """

    fate: Fate
    begun_at: float
    client_port: int = 0
    token: str | None = None
    status: int | None = None
    passed_at: float | None = None
    client_left: bool = False

    @property
    def spent(self) -> bool:
        """Whether the server exchanged the token."""
        return self.status == 200


class TcpShim:
    """Listens on loopback in front of `host`:`port`. The first connections meet the fates of `plan`, one each.

    For the others they are drawn with `rates` from a seeded generator; the rest to 1 passes. One request per connection
    is understood, as token clients without keep-alive send them.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        rates: Mapping[Fate, float] | None = None,
        plan: Sequence[Fate] = (),
        seed: int = 1,
    ) -> None:
        self._server_address = (host, port)
        self._rates = dict(rates or {})
        self._plan = deque(plan)
        self._random = random.Random(seed)
        self._delays = random.Random(seed)  # of its own: the fates are the same in every run
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._begun = asyncio.Event()
        self.port = 0
        self.exchanges: list[Exchange] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._server is not None:
            self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    @property
    def counts(self) -> Counter[str]:
        """How many connections met which fate, and how many answers that spent a token were lost."""
        counts = Counter(str(exchange.fate) for exchange in self.exchanges)
        counts["lost"] = sum(exchange.spent and exchange.fate in LOSSY for exchange in self.exchanges)
        return counts

    def be_honest(self) -> None:
        """From now on every connection passes."""
        self._rates.clear()
        self._plan.clear()

    async def next_exchange(self) -> Exchange:
        """Wait for the next connection."""
        self._begun.clear()
        await self._begun.wait()
        return self.exchanges[-1]

    def _draw(self) -> Fate:
        if self._plan:
            return self._plan.popleft()
        point = self._random.random()
        for fate, rate in self._rates.items():
            point -= rate
            if point < 0:
                return fate
        return Fate.PASS

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client_port = writer.get_extra_info("peername")[1]
        exchange = Exchange(fate=self._draw(), begun_at=time.monotonic(), client_port=client_port)
        self.exchanges.append(exchange)
        self._begun.set()
        task = asyncio.create_task(self._carry(exchange, reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(_LONGEST_SECONDS):
                    if exchange.fate is Fate.REFUSE:
                        await reader.read(_CHUNK)
                        writer.transport.abort()
                    else:
                        await self._ask_server(exchange, reader, writer)
        finally:
            await _close(writer)

    async def _ask_server(self, exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, to_server = await asyncio.open_connection(*self._server_address)
        request = bytearray()
        upward = asyncio.create_task(_copy(reader, to_server, request))
        downward: asyncio.Task[None] | None = None
        try:
            # A client that leaves now does not keep the server from answering: its end is not passed on.
            first = await answers.read(_CHUNK)
            exchange.client_left = upward.done()
            exchange.token = _presented(bytes(request))
            exchange.status = int(first[9:12]) if first.startswith(b"HTTP/1.") else None
            if not await self._pass_on(exchange, first, writer):
                return
            downward = asyncio.create_task(_copy(answers, writer))
            await asyncio.wait({upward, downward}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [task for task in (upward, downward) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _close(to_server)

    async def _pass_on(self, exchange: Exchange, first: bytes, writer: asyncio.StreamWriter) -> bool:
        """Do to the answer what fate wants; whether the rest of it is to follow."""
        match exchange.fate:
            case Fate.DROP:
                return False
            case Fate.RESET:
                writer.transport.abort()
                return False
            case Fate.CUT:
                writer.write(first[: len(first) // 2])
                return False
            case Fate.DELAY:
                await asyncio.sleep(self._delays.uniform(*DELAY_SECONDS))
        exchange.passed_at = time.monotonic()
        writer.write(first)
        await writer.drain()
        return True


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None = None) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK):
            if kept is not None:
                kept += chunk
            writer.write(chunk)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def _presented(request: bytes) -> str | None:
    form = parse_qs(request.partition(b"\r\n\r\n")[2].decode("latin-1"))
    return fingerprint(form["refresh_token"][0]) if "refresh_token" in form else None
