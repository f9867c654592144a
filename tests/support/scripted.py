"""Upstreams whose every frame or byte a test decides on: what a well-behaved server would never send."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from mitmproxy.proxy import events

type Byte = Callable[["RawConnection"], Awaitable[None]]
type Frame = Callable[["ScriptedStream"], Awaitable[None] | None]


class RawConnection:
    """One HTTP/1 connection: read what came, write what you like. `number` counts from 0."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def head(self) -> bytes:
        """Read the head of a request; empty when the client has left."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""

    async def request(self) -> bytes:
        """Read a whole request, with a body of known length; give the body."""
        head = await self.head()
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return await self.reader.readexactly(int(length[0].partition(b":")[2])) if length else b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class _Server:
    host = "127.0.0.1"

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections_made = 0

    @property
    def authority(self) -> str:
        return f"localhost:{self.port}" if self.tls else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections_made = self.connections_made, self.connections_made + 1
        self._tasks.add(asyncio.create_task(self._run(reader, writer, number)))

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            await self._serve(reader, writer, number)
        except (ConnectionError, asyncio.IncompleteReadError, h2.exceptions.ProtocolError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        raise NotImplementedError


class RawUpstream(_Server):
    """Plays `script` on each connection, and closes it when that returns."""

    def __init__(self, script: Byte, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self._script = script

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await self._script(RawConnection(reader, writer, number))


class ScriptedStream:
    """One HTTP/2 stream at the moment its script runs; `protocol` is for frames that have no method here."""

    def __init__(self, protocol: h2.connection.H2Connection, writer: asyncio.StreamWriter, id_: int) -> None:
        self.protocol = protocol
        self.id = id_
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.resets: list[int] = []
        self.is_read = True
        self.trailers: dict[str, str] = {}
        self._writer = writer

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def head(self, status: int, *fields: tuple[str, str], end: bool = False) -> None:
        self.protocol.send_headers(self.id, [(":status", str(status)), *fields], end_stream=end)

    def data(self, data: bytes, *, end: bool = False) -> None:
        self.protocol.send_data(self.id, data, end_stream=end)

    def reset(self, code: int = 0) -> None:
        self.protocol.reset_stream(self.id, code)

    def flush(self) -> None:
        self._writer.write(self.protocol.data_to_send())

    def close(self) -> None:
        """Close the connection without a word."""
        self.flush()
        self._writer.close()


class Http2Upstream(_Server):
    """Runs `at_head` when a stream's headers are here, `at_end` when all of it is; `streams` has every one."""

    def __init__(self, tls: ssl.SSLContext, *, at_head: Frame | None = None, at_end: Frame | None = None) -> None:
        super().__init__(tls)
        self._at_head, self._at_end = at_head, at_end
        self.streams: list[ScriptedStream] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        protocol.initiate_connection()
        writer.write(protocol.data_to_send())
        here: dict[int, ScriptedStream] = {}
        while data := await reader.read(65536):
            for event in protocol.receive_data(data):
                if protocol.state_machine.state is h2.connection.ConnectionState.CLOSED:
                    return
                match event:
                    case h2.events.RequestReceived(stream_id=int(stream), headers=headers):
                        here[stream] = ScriptedStream(protocol, writer, stream)
                        here[stream].headers = {str(name): str(value) for name, value in headers or ()}
                        self.streams.append(here[stream])
                        self._run_script(self._at_head, here[stream])
                    case h2.events.DataReceived(stream_id=int(stream), data=piece):
                        here[stream].body += piece or b""
                        self._make_room(here[stream], event.flow_controlled_length or 0)
                    case h2.events.TrailersReceived(stream_id=int(stream), headers=trailers):
                        here[stream].trailers = {str(name): str(value) for name, value in trailers or ()}
                    case h2.events.StreamEnded(stream_id=int(stream)):
                        self._run_script(self._at_end, here[stream])
                    case h2.events.StreamReset(stream_id=int(stream), error_code=code):
                        here[stream].resets.append(int(code or 0))
            writer.write(protocol.data_to_send())
            await writer.drain()
            if protocol.state_machine.state is h2.connection.ConnectionState.CLOSED or writer.is_closing():
                return

    def _make_room(self, stream: ScriptedStream, size: int) -> None:
        """Let the client send on; of a stream that is not read any more, on the other streams alone."""
        if not size:
            return
        if stream.is_read:
            stream.protocol.acknowledge_received_data(size, stream.id)
        else:
            stream.protocol.increment_flow_control_window(size)

    def _run_script(self, script: Frame | None, stream: ScriptedStream) -> None:
        waiting = script(stream) if script is not None else None
        stream.flush()
        if waiting is not None:
            self._tasks.add(asyncio.ensure_future(self._finish(waiting, stream)))

    async def _finish(self, waiting: Awaitable[None], stream: ScriptedStream) -> None:
        with suppress(h2.exceptions.ProtocolError, ConnectionError):
            await waiting
        stream.flush()


class Wakeups:
    """mitmproxy's timers in a test's hands: nothing wakes up but by `pass_time`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, asyncio.Event]] = []

    def stand_in(self) -> Callable[[Any, Any], Awaitable[None]]:
        """What takes the place of `ConnectionHandler.wakeup`."""

        async def wakeup(handler: Any, request: Any) -> None:
            over = asyncio.Event()
            self._waiting.append((request.delay, over))
            await over.wait()
            handler.wakeup_timer.discard(asyncio.current_task())
            await handler.server_event(events.Wakeup(request))

        return wakeup

    @property
    def delays(self) -> list[float]:
        """What is being waited for."""
        return [delay for delay, _ in self._waiting]

    def pass_time(self, most: float = 10.0) -> None:
        """Those that wait for so many seconds or less have waited long enough."""
        waiting, self._waiting = self._waiting, []
        for delay, over in waiting:
            if delay <= most:
                over.set()
            else:
                self._waiting.append((delay, over))
