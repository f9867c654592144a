"""A request that is sent more than once: attempts that are told apart.

A stream outlives an upstream's "no": as long as the request body is held and the client has seen nothing, the same
stream sends the request again. Each attempt has a number of its own on the upstream's side, so that whatever still
comes of one that is over is told by it and dropped.
"""

import itertools

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)

from authpool.proxy.wire.connecting import NOT_ALLOWED
from authpool.proxy.wire.connections import forget_failed_connections
from authpool.proxy.wire.http2 import NewRequestConnection

MAX_UNPROCESSED = 5
"""So often a request goes out anew because an upstream took leave before it had done anything with it."""
ANSWER = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
"""The events that come from an upstream, by the number of the attempt."""
_ENDS = (ResponseEndOfMessage, ResponseProtocolError)
_attempts = itertools.count(-1, -1)
"""Numbers that no client gives a stream."""


class AttemptStream(HttpStream):
    """mitmproxy's HTTP stream, which can send its request again."""

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self._attempt = stream_id
        self._attempt_over = False
        self._unprocessed = 0

    def _goes_out_anew(self) -> bool:
        """Whether a request that an upstream has not processed can be sent again."""
        self._unprocessed += 1
        return (
            self._unprocessed <= MAX_UNPROCESSED
            and self.client_state == self.state_done
            and self.server_state == self.state_wait_for_response_headers
            and not self.flow.request.stream
            and self.flow.request.raw_content is not None
        )

    def _is_awaited(self, event: HttpEvent) -> bool:
        """Whether an upstream's event is of the attempt under way; an attempt's last event ends it."""
        if event.stream_id != self._attempt or self._attempt_over:
            return False
        self._attempt_over = isinstance(event, _ENDS)
        return True

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        """What follows a 101: no messages any more, and still of one attempt."""
        if isinstance(event, ANSWER) and event.stream_id != self._attempt:
            return
        for command in super().passthrough(event):
            if isinstance(command, SendHttp) and command.connection is not self.context.client:
                command.event.stream_id = self._attempt
            yield command

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        forget_failed_connections(self._layer())
        asking, reply = super().make_server_connection(), None
        while True:
            try:
                command = asking.send(reply)
            except StopIteration as done:
                return bool(done.value)
            if type(command) is GetHttpConnection:
                command.__class__ = NewRequestConnection
            reply = yield command
            if isinstance(reply, tuple) and reply[1] is not None and NOT_ALLOWED in reply[1]:
                asking.close()
                yield from self._not_connected()
                return False

    def _not_connected(self) -> layer.CommandGenerator[None]:
        """Answer the client, for there is no connection that may be used."""
        raise NotImplementedError

    def _end_attempt(self) -> layer.CommandGenerator[None]:
        """Let go of what is left of the attempt on the upstream's side.

        In HTTP/2 the stream is reset, if it is not over; that frees the unsent rest of its body. In HTTP/1 the
        connection is closed: an upstream that answers before it has read the body, or will close without having said
        so, would take the next request with it.
        """
        self._attempt_over = True
        if self.context.server.connected:  # where the upstream has left, mitmproxy is about to close it by itself
            over = RequestProtocolError(self._attempt, "the attempt is over", ErrorCode.CANCEL)
            yield SendHttp(over, self.context.server)

    def _resend(self) -> layer.CommandGenerator[None]:
        """Send the same request again, as if nothing had been answered yet."""
        self._begin_attempt()
        if not (yield from self.make_server_connection()):
            return
        request, server = self.flow.request, self.context.server
        content, trailers = request.raw_content, request.trailers
        yield SendHttp(RequestHeaders(self.stream_id, request, not (content or trailers)), server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), server)
        if trailers:
            yield SendHttp(RequestTrailers(self.stream_id, trailers), server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), server)

    def _begin_attempt(self) -> None:
        streams = self._layer().streams
        if self._attempt != self.stream_id:
            streams.pop(self._attempt, None)
        self._attempt, self._attempt_over = next(_attempts), False
        streams[self._attempt] = self
        self.response_body_buf.clear()
        self.flow.response = None
        self.server_state = self.state_wait_for_response_headers

    def _layer(self) -> http_layer.HttpLayer:
        """The layer that has all streams and connections of this client's connection."""
        parent = self.context.layers[self.context.layers.index(self) - 1]
        assert isinstance(parent, http_layer.HttpLayer)  # noqa: S101 - mitmproxy asserts the same
        return parent

    def _upstream(self) -> layer.Layer | None:
        """The protocol layer that talks to the upstream."""
        connection = self._layer().connections.get(self.context.server)
        return connection.context.layers[-1] if connection is not None else None
