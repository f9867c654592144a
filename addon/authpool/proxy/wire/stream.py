"""mitmproxy's HTTP stream with a gate in front of the upstream.

`GatewayStream` is mitmproxy's own HTTP stream with a gate in front of the upstream: nothing goes out that the gate
has not seen, and the credential is put on a copy of the request that exists only on its way to the socket. So it is
in no flow, and thereby in no UI, file, export or log. With no gate installed, nothing goes out at all.

A stream also outlives an upstream's "no": as long as the request body is held and the client has seen nothing, the
same stream sends the request again, and the client gets one answer, streamed if it is a stream. Each attempt has a
number of its own on the upstream's side, so that whatever still comes of one that is over is told by it and dropped.
"""

import itertools
import logging
from collections.abc import Generator
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import DropStream, HttpStream, SendHttp
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
from mitmproxy.proxy.layers.http._http3 import Http3Client

from authpool.proxy.wire.connections import forget_failed_connections
from authpool.proxy.wire.head import WITH_BODY, head_of
from authpool.proxy.wire.http1 import SWITCHING_PROTOCOLS
from authpool.proxy.wire.installed import AuthpoolUpstreamAnswerHook, Installed

logger = logging.getLogger(__name__)

MAX_HELD_ANSWER_BYTES = 64 * 1024
"""Of an answer that may lead to a resend so much is held back; a longer one goes to the client as it comes."""
FLOWS_AFTER_SECONDS = 1.0
"""An answer that is not complete so long after its headers goes to the client as it comes from then on."""
MAX_HELD_SECONDS = 5.0
"""One that may lead to a resend is held back so long; then what there is of it decides."""

_ANSWER = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
_attempts = itertools.count(-1, -1)
"""Numbers that no client gives a stream."""


class _Patience(commands.RequestWakeup):
    """So long a stream waits for the rest of an answer. In a tunnel others' timers pass through it as well."""

    def __init__(self, stream: HttpStream, delay: float) -> None:
        super().__init__(delay)
        self.stream = stream


class GatewayStream(HttpStream):
    """mitmproxy's HTTP stream, with a gate in front of the upstream."""

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self._attempt = stream_id
        self._attempt_over = False
        self._answer_ended = False
        self._patience: _Patience | None = None
        self._held_for_long = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, _ANSWER) and not self._is_awaited(event):
            return
        inner = self._react(event)
        reply: Any = None
        while True:
            try:
                command: commands.Command | None = inner.send(reply)
            except StopIteration:
                break
            reply = None
            if isinstance(command, DropStream) and self._attempt != self.stream_id:
                yield DropStream(self._attempt)
            elif isinstance(command, SendHttp):
                verdict = self._address(command)
                if isinstance(verdict, http.Response):
                    inner.close()
                    inner = self._refuse(verdict)
                    continue
                command = verdict
                if command is not None and isinstance(command.event, WITH_BODY) and self._is_head():
                    yield from self._head_alone(command)
                    continue
            if command is not None:
                reply = yield command
        if self._patience is None and isinstance(event, ResponseHeaders | ResponseData) and self._is_late():
            self._patience = _Patience(self, FLOWS_AFTER_SECONDS)
            yield self._patience

    def _address(self, command: SendHttp) -> SendHttp | http.Response | None:
        """What is to be sent: to an upstream by the attempt's number, with the credential, or a refusal instead."""
        event, connection = command.event, command.connection
        if connection is self.context.client:
            return None if self._answer_ended and isinstance(event, ResponseEndOfMessage) else command
        if not isinstance(event, RequestHeaders):
            event.stream_id = self._attempt
            return command
        verdict = self._ask_gate(event.request, connection)
        if isinstance(verdict, http.Response):
            return verdict
        return SendHttp(RequestHeaders(self._attempt, verdict, event.end_stream), connection)

    def _react(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            return self._woken(event)
        if isinstance(event, ResponseProtocolError) and self._is_held():
            return self._broken_off(event)
        return super()._handle_event(event)  # type: ignore[no-any-return]

    def _is_awaited(self, event: HttpEvent) -> bool:
        """Whether an upstream's event is of the attempt under way; an attempt's last event ends it."""
        if event.stream_id != self._attempt or self._attempt_over:
            return False
        self._attempt_over = isinstance(event, ResponseEndOfMessage | ResponseProtocolError)
        return True

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        """What follows a 101: no messages any more, and still of one attempt."""
        if isinstance(event, _ANSWER) and event.stream_id != self._attempt:
            return
        if isinstance(event, events.Wakeup) and getattr(event.command, "stream", None) is self:
            return
        for command in super().passthrough(event):
            if isinstance(command, SendHttp) and command.connection is not self.context.client:
                command.event.stream_id = self._attempt
            yield command

    # --- the request --------------------------------------------------------------------------------------------

    def _head_alone(self, command: SendHttp) -> layer.CommandGenerator[None]:
        """What goes out of a body, or of an error page, where HEAD was asked."""
        begun = self.server_state in (self.state_stream_response_body, self.state_done)
        head = head_of(command, self.stream_id, is_http1=not self._has_frames(), begun=begun)
        if head is not None:
            yield head

    def _has_frames(self) -> bool:
        return bool(self.flow.request.is_http2 or self.flow.request.is_http3)

    def _is_head(self) -> bool:
        return bool(self.flow.request.method == "HEAD")

    def _ask_gate(self, request: http.Request, server: Any) -> http.Request | http.Response:
        gate = Installed.gate
        if gate is not None:
            try:
                return gate.outgoing(self.flow, request, server)
            except Exception:
                logger.exception("The gate failed; the request is refused")
        refusal = Installed.refusal
        return refusal() if refusal is not None else http.Response.make(500)

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        if self.flow.response is not None:  # mitmproxy alone would crash here, and log the body
            yield from self._refuse(self.flow.response)
        else:
            yield from super().start_request_stream()

    def _refuse(self, response: http.Response) -> layer.CommandGenerator[None]:
        self.flow.response = response
        if self._is_head():
            response.data.content = b""  # past the property: the length is what GET would be told
        if self.client_state != self.state_done:
            self.client_state = self.state_drop_request_body
        yield from self._answer()

    def state_drop_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is out, and the client still sends a body that was to be streamed."""
        self.server_state = self.state_done
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        forget_failed_connections(self._layer())
        return (yield from super().make_server_connection())

    # --- the answer ---------------------------------------------------------------------------------------------

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super().state_consume_response_body(event)
        if isinstance(event, ResponseData) and len(self.response_body_buf) > MAX_HELD_ANSWER_BYTES and self._is_held():
            yield from self._let_flow()

    def send_response(self, already_streamed: bool = False) -> layer.CommandGenerator[None]:  # noqa: FBT001, FBT002
        if already_streamed or not self._is_held() or not (yield from self._is_decided()):
            yield from self._answer(already_streamed=already_streamed)

    def _answer(self, *, already_streamed: bool = False) -> layer.CommandGenerator[None]:
        """Send the answer; its end too where the client still sends, for it may wait for one before the other."""
        yield from super().send_response(already_streamed)
        uploading = self.client_state in (self.state_stream_request_body, self.state_drop_request_body)
        if uploading and self.flow.response is not None and self.flow.response.status_code != SWITCHING_PROTOCOLS:
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
            self._answer_ended = True

    def _is_held(self) -> bool:
        """Whether an answer is being held back that may lead to a resend."""
        return self.server_state == self.state_consume_response_body and self._may_resend()

    def _may_resend(self) -> bool:
        return (
            Installed.gate is not None
            and self.client_state == self.state_done
            and not self.flow.request.stream
            and self.flow.request.raw_content is not None
            and Installed.gate.may_resend(self.flow)
            and not isinstance(self._upstream(), Http3Client)
        )

    def _is_late(self) -> bool:
        """Whether an answer is incomplete though all that has arrived of it was looked at."""
        return (
            self.server_state == self.state_consume_response_body
            and not self._paused_event_queue
            and Installed.gate is not None
            and Installed.gate.lets_flow(self.flow)
        )

    def _woken(self, event: events.Wakeup) -> layer.CommandGenerator[None]:
        """An answer takes long: let it flow, unless it may lead to a resend; of that one wait for some more."""
        if event.command is not self._patience or self.server_state != self.state_consume_response_body:
            return
        if not self._may_resend():
            yield from self._let_flow()
        elif not self._held_for_long:
            self._held_for_long = True
            self._patience = _Patience(self, MAX_HELD_SECONDS - FLOWS_AFTER_SECONDS)
            yield self._patience
        elif not (yield from self._is_decided_early()):
            yield from self._let_flow()

    def _let_flow(self) -> layer.CommandGenerator[None]:
        """Send what there is of the answer, and the rest as it comes."""
        held = bytes(self.response_body_buf)
        self.response_body_buf.clear()
        if self.flow.response is not None:
            self.flow.response.stream = True
        yield from self.start_response_stream()
        if held:
            yield from self.server_state(ResponseData(self.stream_id, held))

    def _broken_off(self, event: ResponseProtocolError) -> layer.CommandGenerator[None]:
        """An answer that may lead to a resend broke off: its head tells enough. A piece of it is no answer, though."""
        if not (yield from self._is_decided_early()):
            yield from self.handle_protocol_error(
                ResponseProtocolError(self.stream_id, event.message, ErrorCode.GENERIC_SERVER_ERROR)
            )

    # --- another attempt ----------------------------------------------------------------------------------------

    def _is_decided_early(self) -> Generator[Any, Any, bool]:
        """Have it decided by what there is of the answer; False when it is as undecided as before."""
        response = self.flow.response
        if response is not None:
            response.data.content = bytes(self.response_body_buf)
        if (yield from self._is_decided()):
            return True
        if self.flow.response is response:
            return False
        yield from self._end_attempt()  # a refusal of ours takes the answer's place
        yield from self._answer()
        return True

    def _is_decided(self) -> Generator[Any, Any, bool]:
        """Have it decided whether to send the request again; False when the answer, or its successor, is to be sent."""
        yield AuthpoolUpstreamAnswerHook(self.flow)
        if (yield from self.check_killed(True)):
            yield from self._end_attempt()
            return True
        if Installed.gate is None or not Installed.gate.resend(self.flow):
            return False
        yield from self._end_attempt()
        yield from self._resend()
        return True

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
        self._patience, self._held_for_long = None, False
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
