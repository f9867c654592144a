"""HTTP/2 on a server's side of a socket, with the h2 library."""

import asyncio
from collections.abc import Mapping

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.errors import ErrorCodes

from support.exchange import Handler, Request


class Http2Connection:
    """One client's connection; each of its streams is answered in a task of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self._reader = reader
        self.writer = writer
        self._handler = handler
        self.protocol = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.window_opened = asyncio.Event()
        self._headers: dict[int, list[tuple[str, str]]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Answer requests until either side closes the connection."""
        try:
            self.protocol.initiate_connection()
            await self.flush()
            while data := await self._reader.read(65536):
                for event in self.protocol.receive_data(data):
                    self._receive(event)
                await self.flush()
        finally:
            await self._cancel_answers()

    async def _cancel_answers(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def flush(self) -> None:
        """Send what the protocol has to say."""
        self.writer.write(self.protocol.data_to_send())
        await self.writer.drain()

    def _receive(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream), headers=headers):
                self._headers[stream] = [(str(name), str(value)) for name, value in headers or ()]
                self._bodies[stream] = bytearray()
            case h2.events.DataReceived(stream_id=int(stream), data=data):
                self._bodies[stream] += data or b""
                self.protocol.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            case h2.events.StreamEnded(stream_id=int(stream)):
                self._tasks[stream] = asyncio.create_task(self._answer(stream))
            case h2.events.StreamReset(stream_id=int(stream)):
                if task := self._tasks.get(stream):
                    task.cancel()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self.window_opened.set()

    async def _answer(self, stream: int) -> None:
        received = self._headers.pop(stream)
        pseudo = {name: value for name, value in received if name.startswith(":")}
        request = Request(
            method=pseudo[":method"],
            target=pseudo[":path"],
            headers=received,
            body=bytes(self._bodies.pop(stream)),
        )
        try:
            answer = self._handler.greet() or await self._handler.answer(request)
            await answer.play(Http2Reply(request, stream, self))
        except (ConnectionError, h2.exceptions.ProtocolError):
            pass  # the client has left, or reset the stream meanwhile
        finally:
            self._tasks.pop(stream, None)


class Http2Reply:
    """A `Reply` on one stream of an HTTP/2 connection."""

    def __init__(self, request: Request, stream: int, connection: Http2Connection) -> None:
        self.request = request
        self._stream = stream
        self._connection = connection
        self._protocol = connection.protocol

    async def head(self, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
        size = [] if length is None else [("content-length", str(length))]
        fields = [(":status", str(status)), *((k.lower(), v) for k, v in headers.items()), *size]
        self._protocol.send_headers(self._stream, fields)
        await self._connection.flush()

    async def data(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            room = min(self._protocol.local_flow_control_window(self._stream), self._protocol.max_outbound_frame_size)
            if room <= 0:
                self._connection.window_opened.clear()
                await self._connection.window_opened.wait()
                continue
            self._protocol.send_data(self._stream, bytes(rest[:room]))
            rest = rest[room:]
            await self._connection.flush()

    async def end(self) -> None:
        self._protocol.end_stream(self._stream)
        await self._connection.flush()

    async def raw(self, data: bytes) -> None:
        raise NotImplementedError("HTTP/2 has frames; bytes can't be sent as they are")

    async def close(self) -> None:
        self._protocol.close_connection()
        await self._connection.flush()
        self._connection.writer.close()

    async def reset(self) -> None:
        self._protocol.reset_stream(self._stream, ErrorCodes.INTERNAL_ERROR)
        await self._connection.flush()

    async def gone(self) -> None:
        await asyncio.Event().wait()  # the task is cancelled when the stream or the connection ends
