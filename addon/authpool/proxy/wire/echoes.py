"""What an upstream repeats of the credential it was sent: kept out of the flow, and out of the answer's head.

What the flow shows of an answer is covered before anybody sees it. A body goes to the client as it came all the same,
unless the pool says otherwise; header fields, trailers and error messages do not.
"""

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.tcp import TcpMessageHook
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketMessageHook
from mitmproxy.tcp import TCPMessage
from mitmproxy.websocket import WebSocketMessage

from authpool.proxy.echo import Echo, StreamedEcho
from authpool.proxy.token_exchange import covered
from authpool.proxy.wire.attempts import AttemptStream
from authpool.proxy.wire.installed import Installed

OWN_FIELD = b"authpool-error"
"""The field of the gateway's own answers; an upstream's would pass for one."""


class CoveredMessage:
    """A message behind a 101, covered but for the moment in which it is sent; another addon's change stands."""

    def __init__(
        self, hook: WebsocketMessageHook | TcpMessageHook, message: WebSocketMessage | TCPMessage, echo: Echo
    ) -> None:
        self.hook = hook
        self._message = message
        self._received = message.content
        self._shown = self._received if message.from_client else echo.body(self._received)
        self._for_client = echo.for_client
        self.cover()

    def cover(self) -> None:
        if self._message.content is self._received:
            self._message.content = self._shown

    def uncover(self) -> None:
        """Let the client have it as it came, unless it is to have it covered."""
        if self._message.content is self._shown and not self._for_client:
            self._message.content = self._received


class EchoStream(AttemptStream):
    """A stream that knows what its answer must not show."""

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self._echo: Echo | None = None
        self._streamed_echo: StreamedEcho | None = None
        self._shown: bytes | None = None
        self._received = b""
        self._shown_request: bytes | None = None
        self._sent_request = b""
        self._covered_message: CoveredMessage | None = None

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestEndOfMessage):
            self._cover_request()
        return super().state_consume_request_body(event)  # type: ignore[no-any-return]

    def state_stream_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestEndOfMessage):
            self._cover_request()
        return super().state_stream_request_body(event)  # type: ignore[no-any-return]

    def state_wait_for_response_headers(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseHeaders):
            self._echo = self._ask_for_echo()
            response = event.response
            response.headers.fields = self._clean(response.headers)
            if self._echo is not None:
                reason = response.reason
                covered = self._echo.text(reason)
                if covered is not reason:
                    response.reason = covered
        return super().state_wait_for_response_headers(event)  # type: ignore[no-any-return]

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseTrailers):
            event.trailers.fields = self._clean(event.trailers)
        return super().state_consume_response_body(event)  # type: ignore[no-any-return]

    def state_stream_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseTrailers):
            event.trailers.fields = self._clean(event.trailers)
        elif self._echo is not None and self._echo.for_client and self.flow.response is not None:
            if self._streamed_echo is None:
                self._streamed_echo = self._echo.stream()
            if isinstance(event, ResponseData):
                event.data = self._streamed_echo.feed(event.data)
                if not event.data:
                    return
            elif isinstance(event, ResponseEndOfMessage) and (rest := self._streamed_echo.end()):
                yield from super().state_stream_response_body(ResponseData(event.stream_id, rest))
        yield from super().state_stream_response_body(event)

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError):
            echo = self._echo or self._ask_for_echo()
            if echo is not None:
                event.message = echo.text(event.message)
        yield from super().handle_protocol_error(event)

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        """What follows a 101: its messages are covered for as long as anybody sees them."""
        if isinstance(event, RequestData | ResponseData):
            event.data = bytes(event.data)  # of what came with the head mitmproxy makes a bytearray, and can't save it
        if self._echo is None:
            yield from super().passthrough(event)
            return
        covered = self._covered_message
        if covered is not None and isinstance(event, events.HookCompleted) and event.command is covered.hook:
            covered.uncover()
        for command in super().passthrough(event):
            if covered is not None:
                covered.cover()  # what is to be sent has been taken from it
            self._cover_command(command, self._echo)
            covered = self._covered_message
            yield command
        if covered is not None:
            covered.cover()

    def _cover_command(self, command: commands.Command, echo: Echo) -> None:
        """Cover what a hook or the log is about to show of what follows a 101."""
        websocket = self.flow.websocket
        if isinstance(command, commands.Log):
            command.message = echo.text(command.message)
        elif isinstance(command, TcpMessageHook):
            self._covered_message = CoveredMessage(command, command.flow.messages[-1], echo)
        elif websocket is not None and isinstance(command, WebsocketEndHook) and websocket.close_reason:
            websocket.close_reason = echo.text(websocket.close_reason)
        elif websocket is not None and isinstance(command, WebsocketMessageHook):
            self._covered_message = CoveredMessage(command, websocket.messages[-1], echo)

    def _begin_attempt(self) -> None:
        super()._begin_attempt()
        self._echo = self._streamed_echo = self._shown = None

    def _ask_for_echo(self) -> Echo | None:
        return Installed.gate.echo_of(self.flow) if Installed.gate is not None else None

    def _clean(self, headers: http.Headers) -> tuple[tuple[bytes, bytes], ...]:
        fields: tuple[tuple[bytes, bytes], ...] = headers.fields
        lengths = [len(name) for name, _ in fields]
        if len(OWN_FIELD) in lengths:
            fields = tuple([field for field in fields if field[0].lower() != OWN_FIELD])
        return fields if self._echo is None else self._echo.fields(fields)

    def _cover_request(self) -> None:
        """Cover what the flow is about to show of the request's body; `_restore` knows what the upstream is to get."""
        if not self.request_body_buf or Installed.gate is None or not Installed.gate.hides_request(self.flow):
            return
        content = bytes(self.request_body_buf)
        shown = covered(content, self.flow.request.headers.get("content-encoding", ""))
        if shown != content:
            self.request_body_buf.clear()
            self.request_body_buf += shown
            self._shown_request, self._sent_request = shown, content

    def _cover_body(self, *, whole: bool = True) -> None:
        """Cover what the flow is about to show of a body; `_restore` knows what the client is to get of it."""
        response, echo = self.flow.response, self._echo
        content = None if response is None else response.data.content
        if response is None or echo is None or not content or content is self._shown:
            return
        covered = echo.body(content, response.headers.get("content-encoding", ""))
        if covered is content:
            return
        response.data.content, self._shown, self._received = covered, covered, content
        if whole and echo.for_client and "content-length" in response.headers:
            response.headers["content-length"] = str(len(covered))

    def _restore(self, command: SendHttp) -> None:
        """Client and upstream get bodies as they came: it is the flow that is covered."""
        event = command.event
        if isinstance(event, RequestData):
            if self._shown_request is not None and event.data == self._shown_request:
                event.data = self._sent_request
        elif isinstance(event, ResponseData) and event.data is self._shown and not self._covers_for_client():
            event.data = self._received

    def _covers_for_client(self) -> bool:
        return self._echo is not None and self._echo.for_client
