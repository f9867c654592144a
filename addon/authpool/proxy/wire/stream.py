"""mitmproxy's HTTP stream with a gate in front of the upstream.

`GatewayStream` is mitmproxy's own HTTP stream with a gate in front of the upstream: nothing goes out that the gate
has not seen, and the credential is put on a copy of the request that exists only on its way to the socket. So it is
in no flow, and thereby in no UI, file, export or log. With no gate installed, nothing goes out at all.
"""

import logging
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import DropStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from authpool.proxy.wire.addressed import note_names
from authpool.proxy.wire.attempts import ANSWER
from authpool.proxy.wire.cut_off import CutOff
from authpool.proxy.wire.head import WITH_BODY, head_of
from authpool.proxy.wire.held_answers import PARTS, HeldAnswerStream
from authpool.proxy.wire.http1 import fit_trailers
from authpool.proxy.wire.http2 import UnprocessedRequestError
from authpool.proxy.wire.installed import Installed
from authpool.proxy.wire.presented_keys import take_keys, take_keys_from_trailers

logger = logging.getLogger(__name__)


_USUAL = frozenset(
    {events.HookCompleted, RequestHeaders, RequestEndOfMessage, ResponseHeaders, ResponseData, ResponseEndOfMessage}
)
"""Events that mitmproxy's own states are to see, and nobody before them."""


class GatewayStream(HeldAnswerStream):
    """mitmproxy's HTTP stream, with a gate in front of the upstream."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ANSWER) and not self._is_awaited(event):
            return
        inner = self._react(event)
        reply: Any = None
        while True:
            try:
                command: commands.Command = inner.send(reply)
            except StopIteration:
                break
            reply = None
            if isinstance(command, SendHttp):
                addressed = self._address(command)
                if isinstance(addressed, http.Response):
                    inner.close()
                    inner = self._refuse(addressed)
                elif addressed is None:
                    pass
                elif isinstance(addressed.event, WITH_BODY) and self._is_head():
                    yield from self._head_alone(addressed)
                else:
                    yield addressed
            elif isinstance(command, DropStream) and self._attempt != self.stream_id:
                yield DropStream(self._attempt)
            else:
                reply = yield command
        if isinstance(event, PARTS) and self._is_late():
            yield self._wait_a_moment()

    def _address(self, command: SendHttp) -> SendHttp | http.Response | None:
        """What is to be sent: to an upstream by the attempt's number, with the credential, or a refusal instead."""
        event, connection = command.event, command.connection
        if self._shown is not None or self._shown_request is not None:
            self._restore(command)
        if connection is self.context.client:
            event.stream_id = self.stream_id  # an error is passed on as it came from the upstream, by the attempt's
            return None if self._answer_ended and isinstance(event, ResponseEndOfMessage) else command
        if not isinstance(event, RequestHeaders):
            event.stream_id = self._attempt
            if isinstance(event, RequestTrailers):
                event.trailers = fit_trailers(event.trailers.fields)
                return command if event.trailers.fields else None
            return command
        verdict = self._ask_gate(event.request, connection)
        if isinstance(verdict, http.Response):
            return verdict
        return SendHttp(RequestHeaders(self._attempt, verdict, event.end_stream), connection)

    def _react(self, event: events.Event) -> layer.CommandGenerator[None]:
        if type(event) in _USUAL:
            return super()._handle_event(event)  # type: ignore[no-any-return]
        if isinstance(event, events.Wakeup):
            return self._cut_off() if isinstance(event.command, CutOff) else self._woken(event)
        if isinstance(event, RequestTrailers):
            event.trailers = take_keys_from_trailers(event.trailers)
        if isinstance(event, UnprocessedRequestError) and self._goes_out_anew():
            return self._resend()
        if isinstance(event, ResponseProtocolError) and self._is_held():
            return self._broken_off(event)
        return super()._handle_event(event)  # type: ignore[no-any-return]

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup) and getattr(event.command, "stream", None) is self:
            return  # waited for an answer that was a 101
        yield from super().passthrough(event)

    # --- the request --------------------------------------------------------------------------------------------

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        note_names(self.context.client, self.mode, event.request)
        if not event.replay_flow:
            take_keys(event.request, self)  # before there is a flow that anybody could see
        return super().state_wait_for_request_headers(event)  # type: ignore[no-any-return]

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
            self._drop_what_still_comes()

    def _drop_what_still_comes(self) -> None:
        """Where there was no connection and the client was told so, mitmproxy gives up the stream without an end."""
        if self.flow.response is not None and self.client_state == self.state_errored:
            self.client_state = self.state_drop_request_body

    def _not_connected(self) -> layer.CommandGenerator[None]:
        gate, refusal = Installed.gate, Installed.refusal
        refused = gate.unreachable(self.flow) if gate is not None else None if refusal is None else refusal()
        yield from self._refuse(refused or http.Response.make(500))

    def _refuse(self, response: http.Response) -> layer.CommandGenerator[None]:
        self.flow.response = response
        if self._is_head():
            response.data.content = b""  # past the property: the length is what GET would be told
        if self.client_state != self.state_done:
            self.client_state = self.state_drop_request_body
        yield from self._answer()

    def _cut_off(self) -> layer.CommandGenerator[None]:
        """The client may not go on: end it on both sides."""
        yield from self._end_attempt()
        yield from self.handle_protocol_error(
            ResponseProtocolError(self.stream_id, "the gateway key is no longer good", ErrorCode.KILL)
        )
        self.client_state = self.server_state = self.state_errored
