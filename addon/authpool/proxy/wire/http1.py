"""mitmproxy's HTTP/1 on both sides, with what it leaves out: trailers, interim answers, bodies that came by HTTP/2.

As it comes, a chunked message with trailers, read or to be written, crashes the connection and leaves its peer
waiting, and an upstream's 100 or 103 is taken for the answer. A body that HTTP/2 needed no length for goes out without
any.
"""

import re
from collections.abc import Iterable
from logging import DEBUG
from typing import Any

from h11 import EndOfMessage
from h11._readers import ChunkedReader
from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server

from authpool.proxy.request_head import overrides, spelled

SWITCHING_PROTOCOLS = 101
MAX_JOINED_BYTES = 64 * 1024
"""A longer body is written by itself: to copy it costs more than another system call."""

_INTERIM = re.compile(rb"HTTP/\d\.\d[ \t]+1(?!01)\d\d\b")
_LAST_CHUNK = b"0\r\n\r\n"
_HEADS = (RequestHeaders, ResponseHeaders)
_BODIES = (RequestData, ResponseData)
_TRAILERS = (RequestTrailers, ResponseTrailers)
_ENDS = (RequestEndOfMessage, ResponseEndOfMessage)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_LINE_ENDS = re.compile(rb"[\x00\r\n]")
_NO_TRAILERS = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"cookie",
        b"host",
        b"proxy-authorization",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-api-key",
        b"x-goog-api-key",
    }
)
"""Fields about framing, routing and authentication mean nothing in a trailer (RFC 9110 §6.5.1), and are dropped."""


def fit_trailers(fields: Iterable[tuple[bytes, bytes]]) -> http.Headers:
    """The trailers that may go on, in whatever version of HTTP: some servers take them for header fields."""
    fit = [
        (name, value) for name, value in fields if spelled(name) not in _NO_TRAILERS and not overrides(spelled(name))
    ]
    return http.Headers([field for field in fit if not _LINE_ENDS.search(b"".join(field))])


def _tells_its_length(request: http.Request) -> bool:
    return any(name.lower() in _FRAMING for name, _ in request.headers.fields)


def _in_chunks(request: http.Request) -> http.Request:
    """A request from HTTP/2, which needs no length, in the only framing that fits (RFC 9112 §6.1).

    Without any the upstream would take the body for its next request.
    """
    chunked: http.Request = request.copy()
    chunked.headers["transfer-encoding"] = "chunked"
    return chunked


def is_interim(response: http.Response) -> bool:
    """Whether another answer follows this one (RFC 9110 §15.2)."""
    return 100 <= response.status_code < 200 and response.status_code != SWITCHING_PROTOCOLS


class _ChunkedReader(ChunkedReader):
    """Reads a chunked body and keeps its trailers, for mitmproxy raises at the sight of them."""

    trailers: http.Headers | None = None

    def __call__(self, buf: Any) -> Any:
        event = super().__call__(buf)
        if isinstance(event, EndOfMessage) and event.headers:
            self.trailers = fit_trailers(event.headers)
            return EndOfMessage()
        return event


class _WithTrailers(Http1Connection):
    """Reads and writes the trailers of chunked messages; no other framing has a place for them.

    What needs nothing of that goes to mitmproxy's own generators, with none of ours around them: every request passes
    here a dozen times.
    """

    ReceiveTrailers: type[RequestTrailers | ResponseTrailers]
    _unsent: http.Headers | None = None

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = _ChunkedReader()
        if isinstance(event, events.DataReceived) and type(self.body_reader) is not _ChunkedReader:
            return super().read_body(event)  # such a body has no trailers, and nothing in it is malformed
        return self._read_body(event)

    def _read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        for command in super().read_body(event):
            reader = self.body_reader
            if (
                isinstance(reader, _ChunkedReader)
                and reader.trailers is not None
                and isinstance(command, ReceiveHttp)
                and isinstance(command.event, self.ReceiveEndOfMessage)
            ):
                trailers, reader.trailers = reader.trailers, None
                if trailers:
                    yield ReceiveHttp(self.ReceiveTrailers(command.event.stream_id, trailers))
            elif isinstance(command, commands.CloseConnection) and self.state == self.read_body:
                self.state = self.done  # it broke off; when its end is told, there is nothing more to close
            yield command

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if self._unsent is None and not isinstance(event, _TRAILERS):
            return super().send(event)
        return self._send_trailers(event)

    def _send_trailers(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, _TRAILERS):
            self._unsent = fit_trailers(event.trailers.fields)
            return
        if self._unsent is None or not isinstance(event, _ENDS):
            yield from super().send(event)
            return
        trailers, self._unsent = bytes(self._unsent), None
        for command in super().send(event):
            is_last = isinstance(command, commands.SendData) and command.data == _LAST_CHUNK
            yield commands.SendData(self.conn, b"0\r\n" + trailers + b"\r\n") if is_last else command


class _InOneWrite(_WithTrailers):
    """Writes the head of a message together with its body, where that is at hand: half the system calls.

    Whoever sends the head of a message that is here whole sends its body next, and nothing comes between.
    """

    _head: bytes = b""

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if self._head:
            return self._send_with_head(event)
        if isinstance(event, _HEADS) and self._is_at_hand(event):
            return self._hold_head(event)
        return super().send(event)

    def _is_at_hand(self, event: RequestHeaders | ResponseHeaders) -> bool:
        message = event.request if isinstance(event, RequestHeaders) else event.response
        content = message.data.content
        return content is not None and 0 < len(content) <= MAX_JOINED_BYTES and not (message.stream or event.end_stream)

    def _hold_head(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        self._head = _bytes_of(super().send(event))
        yield from ()

    def _send_with_head(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        head, self._head = self._head, b""
        if isinstance(event, _BODIES):
            yield commands.SendData(self.conn, head + _bytes_of(super().send(event)))
        else:
            yield commands.SendData(self.conn, head)
            yield from super().send(event)


def _bytes_of(written: Iterable[commands.Command]) -> bytes:
    return b"".join(command.data for command in written if isinstance(command, commands.SendData))


class GatewayHttp1Server(_InOneWrite, Http1Server):
    """The client's side."""

    ReceiveTrailers = RequestTrailers

    def _is_at_hand(self, event: RequestHeaders | ResponseHeaders) -> bool:
        is_head = self.request is not None and self.request.data.method == b"HEAD"  # its body is not sent
        return not is_head and super()._is_at_hand(event)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseHeaders) and is_interim(event.response):
            return self._send_interim(event)
        return super().send(event)

    def _send_interim(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        yield from super().send(event)
        self.response = None  # the answer is still to come, and may yet be an error


class GatewayHttp1Client(_InOneWrite, Http1Client):
    """The upstream's side."""

    ReceiveTrailers = ResponseTrailers

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestHeaders) and not event.end_stream and not _tells_its_length(event.request):
            event = RequestHeaders(event.stream_id, _in_chunks(event.request), end_stream=False)
        return super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            if not self.request:
                return self._end_unasked()
            if _INTERIM.match(bytes(self.buf)):
                return self._read_past_interim(event)
        return super().read_headers(event)

    def _end_unasked(self) -> layer.CommandGenerator[None]:
        """What an upstream says without being asked may repeat a credential: it is not logged."""
        yield commands.Log("Unexpected data from server", DEBUG)
        yield commands.CloseConnection(self.conn)

    def _read_past_interim(self, event: events.DataReceived) -> layer.CommandGenerator[None]:
        while _INTERIM.match(bytes(self.buf)):
            if not self.buf.maybe_extract_lines():
                return  # its end has not arrived
            yield commands.Log("Swallowing HTTP/1 informational response", DEBUG)
        yield from super().read_headers(event)
