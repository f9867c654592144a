"""An answer that may lead to another attempt is held back.

So is any other for a moment: what is complete within it is other addons' to change, what is not flows.
"""

from collections.abc import Generator
from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestEndOfMessage,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http3 import Http3Client
from mitmproxy.utils import human

from authpool.proxy.wire.echoes import EchoStream
from authpool.proxy.wire.http1 import SWITCHING_PROTOCOLS
from authpool.proxy.wire.installed import AuthpoolUpstreamAnswerHook, Installed

MAX_HELD_ANSWER_BYTES = 64 * 1024
"""Of an answer that may lead to a resend so much is held back; then what there is of it decides."""
FLOWS_AFTER_SECONDS = 1.0
"""An answer that is not complete so long after its headers goes to the client as it comes from then on."""
MAX_HELD_SECONDS = 5.0
"""One that may lead to a resend is held back so long; then what there is of it decides."""

PARTS = (ResponseHeaders, ResponseData)


class _Patience(commands.RequestWakeup):
    """So long a stream waits for the rest of an answer. In a tunnel others' timers pass through it as well."""

    def __init__(self, stream: HttpStream, delay: float) -> None:
        super().__init__(delay)
        self.stream = stream


class HeldAnswerStream(EchoStream):
    """A stream that decides what becomes of an answer."""

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self._answer_ended = False
        self._patience: _Patience | None = None
        self._held_for_long = False

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData):
            return self._consume_answer(event)
        return super().state_consume_response_body(event)

    def _consume_answer(self, event: ResponseData) -> layer.CommandGenerator[None]:
        self.response_body_buf += event.data
        options = self.context.options
        if len(self.response_body_buf) > MAX_HELD_ANSWER_BYTES and self._is_held():
            if not (yield from self._is_decided_early()):
                yield from self._let_flow()
        elif (options.stream_large_bodies or options.body_size_limit) and not self._is_held():
            yield from self._keep_limits()

    def _keep_limits(self) -> layer.CommandGenerator[None]:
        """Keep mitmproxy's own limits; they are not for an answer that is held back, since no client may ever get it.

        What is to flow mitmproxy alone would give to this stream by the number of its first attempt, which may be over.
        """
        options, size = self.context.options, len(self.response_body_buf)
        most, whole = human.parse_size(options.body_size_limit), human.parse_size(options.stream_large_bodies)
        if most is not None and size > most:
            yield from self.check_body_size(False)
        elif whole is not None and size > whole:
            yield from self._let_flow()

    def start_response_stream(self) -> layer.CommandGenerator[None]:
        """Let an answer flow, unless it may lead to a resend: whatever another addon, or an option, says of it."""
        response, at_head = self.flow.response, self.server_state == self.state_wait_for_response_headers
        if at_head and response is not None and response.stream is True and self._may_resend():
            response.stream = False
            self.server_state = self.state_consume_response_body
        else:
            yield from super().start_response_stream()

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

    def state_drop_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is out, and the client still sends a body that was to be streamed."""
        self.server_state = self.state_done
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

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
            self._patience is None
            and self.server_state == self.state_consume_response_body
            and not self._paused_event_queue
            and Installed.gate is not None
            and Installed.gate.lets_flow(self.flow)
        )

    def _wait_a_moment(self) -> commands.RequestWakeup:
        self._patience = _Patience(self, FLOWS_AFTER_SECONDS)
        return self._patience

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
            self.flow.response.data.content = None  # a piece of it may have been looked at
        yield from self.start_response_stream()
        if held:
            yield from self.server_state(ResponseData(self.stream_id, held))

    def _broken_off(self, event: ResponseProtocolError) -> layer.CommandGenerator[None]:
        """An answer that may lead to a resend broke off: its head tells enough. A piece of it is no answer, though."""
        if not (yield from self._is_decided_early()):
            yield from self.handle_protocol_error(
                ResponseProtocolError(self.stream_id, event.message, ErrorCode.GENERIC_SERVER_ERROR)
            )

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
