"""mitmproxy's HTTP stream with a gate in front of the upstream.

`GatewayStream` is mitmproxy's own HTTP stream with a gate in front of the upstream: nothing goes out that the gate
has not seen, and the credential is put on a copy of the request that exists only on its way to the socket. So it is
in no flow, and thereby in no UI, file, export or log. With no gate installed, nothing goes out at all.

A stream also outlives an upstream's "no": as long as the request body is held and the client has seen nothing, the
same stream sends the request again, and the client gets one answer, streamed if it is a stream.
"""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseData,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http2 import Http2Client
from mitmproxy.proxy.layers.http._http3 import Http3Client

logger = logging.getLogger(__name__)

MAX_HELD_ANSWER_BYTES = 64 * 1024
"""Of an answer that may lead to a resend so much is held back; a longer one goes to the client as it comes."""


_WITH_BODY = (ResponseData, ResponseProtocolError)


class Gate(Protocol):
    """Who decides what goes upstream."""

    def outgoing(self, flow: http.HTTPFlow, request: http.Request, server: Server) -> http.Request | http.Response:
        """What to send to `server` instead of `request`; or the answer to give, and nothing is sent."""

    def may_resend(self, flow: http.HTTPFlow) -> bool:
        """Whether the upstream's answer may lead to sending the request again."""

    def resend(self, flow: http.HTTPFlow) -> bool:
        """What the `authpool_upstream_answer` hook decided; asked once after each."""


@dataclass
class AuthpoolUpstreamAnswerHook(commands.StartHook):
    """An answer for which `may_resend` holds has arrived whole; the client has seen nothing of it yet."""

    flow: http.HTTPFlow


class Installed:
    """What outlives a reload of the script: the stream class stays, only the gate comes and goes."""

    gate: Gate | None = None
    refusal: Callable[[], http.Response] | None = None


class GatewayStream(HttpStream):
    """mitmproxy's HTTP stream, with a gate in front of the upstream."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        inner = super()._handle_event(event)
        reply: Any = None
        while True:
            try:
                command = inner.send(reply)
            except StopIteration:
                return
            if isinstance(command, SendHttp) and isinstance(command.event, RequestHeaders):
                verdict = self._ask_gate(command.event.request, command.connection)
                if isinstance(verdict, http.Response):
                    inner.close()
                    yield from self._refuse(verdict)
                    return
                if verdict is not command.event.request:
                    command = SendHttp(
                        RequestHeaders(command.event.stream_id, verdict, command.event.end_stream),
                        command.connection,
                    )
            if isinstance(command, SendHttp) and isinstance(command.event, _WITH_BODY) and self._is_head():
                reply = None  # whoever set a body: a client takes what follows the head for its next answer
                yield from self._head_alone(command)
                continue
            reply = yield command

    def _head_alone(self, command: SendHttp) -> layer.CommandGenerator[None]:
        """What goes out of a body, or of an error page, where HEAD was asked; `own_port` does HTTP/1's pages."""
        event = command.event
        if not isinstance(event, ResponseProtocolError):
            return
        status = event.code.http_status_code()
        begun = self.server_state in (self.state_stream_response_body, self.state_done)
        if status is None or begun or not (self.flow.request.is_http2 or self.flow.request.is_http3):
            yield command
            return
        page = http.Response.make(status, b"", {"content-type": "text/html"})
        del page.headers["content-length"]
        yield SendHttp(ResponseHeaders(self.stream_id, page, end_stream=True), command.connection)

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
        yield from super().send_response()

    def state_drop_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is out, and the client still sends a body that was to be streamed."""
        self.server_state = self.state_done
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super().state_consume_response_body(event)
        if (
            isinstance(event, ResponseData)
            and len(self.response_body_buf) > MAX_HELD_ANSWER_BYTES
            and self.server_state == self.state_consume_response_body
            and self._may_resend()
        ):
            held = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            if self.flow.response is not None:
                self.flow.response.stream = True
            yield from self.start_response_stream()
            yield from self.server_state(ResponseData(self.stream_id, held))

    def send_response(self, already_streamed: bool = False) -> Generator[Any, Any, None]:  # noqa: FBT001, FBT002
        if not already_streamed and self.server_state == self.state_consume_response_body and self._may_resend():
            yield AuthpoolUpstreamAnswerHook(self.flow)
            if (yield from self.check_killed(True)):
                return
            if Installed.gate is not None and Installed.gate.resend(self.flow):
                yield from self._resend()
                return
        yield from super().send_response(already_streamed)

    def _may_resend(self) -> bool:
        return (
            Installed.gate is not None
            and self.client_state == self.state_done
            and not self.flow.request.stream
            and self.flow.request.raw_content is not None
            and not isinstance(self._upstream(), Http3Client)
            and Installed.gate.may_resend(self.flow)
        )

    def _upstream(self) -> layer.Layer | None:
        """The protocol layer that talks to the upstream."""
        parent = self.context.layers[self.context.layers.index(self) - 1]
        assert isinstance(parent, http_layer.HttpLayer)  # noqa: S101 - mitmproxy asserts the same
        connection = parent.connections.get(self.context.server)
        return connection.context.layers[-1] if connection is not None else None

    def _resend(self) -> layer.CommandGenerator[None]:
        """Send the same request again, as if nothing had been answered yet."""
        upstream = self._upstream()
        if isinstance(upstream, Http2Client):
            upstream.our_stream_id.pop(self.stream_id, None)  # a new attempt is a new stream
        self.flow.response = None
        self.server_state = self.state_wait_for_response_headers
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
