"""mitmproxy's HTTP stream with a gate in front of the upstream.

`GatewayStream` is mitmproxy's own HTTP stream with a gate in front of the upstream: nothing goes out that the gate
has not seen, and the credential is put on a copy of the request that exists only on its way to the socket. So it is
in no flow, and thereby in no UI, file, export or log. With no gate installed, nothing goes out at all.

An answer that may lead to another attempt is held back, and so is any other for a moment: what is complete within it
is other addons' to change, what is not flows.
"""

import logging
from collections.abc import Generator
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, HttpStream, SendHttp
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
from mitmproxy.proxy.layers.http._http3 import Http3Client

from authpool.proxy.wire.addressed import note_names
from authpool.proxy.wire.attempts import ANSWER
from authpool.proxy.wire.cut_off import CutOff
from authpool.proxy.wire.echoes import EchoStream
from authpool.proxy.wire.head import WITH_BODY, head_of
from authpool.proxy.wire.http1 import SWITCHING_PROTOCOLS, fit_trailers
from authpool.proxy.wire.http2 import UnprocessedRequestError
from authpool.proxy.wire.installed import AuthpoolUpstreamAnswerHook, Installed
from authpool.proxy.wire.presented_keys import take_keys, take_keys_from_trailers

logger = logging.getLogger(__name__)

MAX_HELD_ANSWER_BYTES = 64 * 1024
"""Of an answer that may lead to a resend so much is held back; a longer one goes to the client as it comes."""
FLOWS_AFTER_SECONDS = 1.0
"""An answer that is not complete so long after its headers goes to the client as it comes from then on."""
MAX_HELD_SECONDS = 5.0
"""One that may lead to a resend is held back so long; then what there is of it decides."""


_PARTS = (ResponseHeaders, ResponseData)


class _Patience(commands.RequestWakeup):
    """So long a stream waits for the rest of an answer. In a tunnel others' timers pass through it as well."""

    def __init__(self, stream: HttpStream, delay: float) -> None:
        super().__init__(delay)
        self.stream = stream


class GatewayStream(EchoStream):
    """mitmproxy's HTTP stream, with a gate in front of the upstream."""

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self._answer_ended = False
        self._patience: _Patience | None = None
        self._held_for_long = False

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
        if self._patience is None and isinstance(event, _PARTS) and self._is_late():
            self._patience = _Patience(self, FLOWS_AFTER_SECONDS)
            yield self._patience

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
        if isinstance(event, events.Wakeup):
            return self._woken(event)
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

    def state_drop_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is out, and the client still sends a body that was to be streamed."""
        self.server_state = self.state_done
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

    # --- the answer ---------------------------------------------------------------------------------------------

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData):
            return self._consume_answer(event)
        return super().state_consume_response_body(event)

    def _consume_answer(self, event: ResponseData) -> layer.CommandGenerator[None]:
        yield from super().state_consume_response_body(event)
        if len(self.response_body_buf) > MAX_HELD_ANSWER_BYTES and self._is_held():
            yield from self._let_flow()

    def send_response(self, already_streamed: bool = False) -> layer.CommandGenerator[None]:  # noqa: FBT001, FBT002
        self._cover_body()
        if already_streamed or not self._is_held():
            return self._answer(already_streamed=already_streamed)
        return self._decide()

    def _decide(self) -> layer.CommandGenerator[None]:
        """An answer that was held back is here whole: send it, unless the request is sent again."""
        if not (yield from self._is_decided()):
            yield from self._answer()

    def _answer(self, *, already_streamed: bool = False) -> layer.CommandGenerator[None]:
        """Send the answer; its end too where the client still sends, for it may wait for one before the other."""
        if self.client_state == self.state_done:
            return super().send_response(already_streamed)  # type: ignore[no-any-return]
        return self._answer_early(already_streamed=already_streamed)

    def _answer_early(self, *, already_streamed: bool) -> layer.CommandGenerator[None]:
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
        if isinstance(event.command, CutOff):
            yield from self._cut_off()
            return
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

    def _cut_off(self) -> layer.CommandGenerator[None]:
        """The client may not go on: end it on both sides."""
        yield from self._end_attempt()
        yield from self.handle_protocol_error(
            ResponseProtocolError(self.stream_id, "the gateway key is no longer good", ErrorCode.KILL)
        )
        self.client_state = self.server_state = self.state_errored

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
            self._cover_body(whole=False)
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

    def _begin_attempt(self) -> None:
        super()._begin_attempt()
        self._patience, self._held_for_long = None, False
