"""What an upstream repeats of the credential it was sent: kept out of the flow, and out of the answer's head.

What the flow shows of an answer is covered before anybody sees it. A body goes to the client as it came all the same,
unless the pool says otherwise; header fields, trailers and error messages do not.
"""

from mitmproxy import http
from mitmproxy.proxy import events, layer
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

from authpool.proxy.echo import Echo, StreamedEcho
from authpool.proxy.token_exchange import covered
from authpool.proxy.wire.attempts import AttemptStream
from authpool.proxy.wire.installed import Installed

OWN_FIELD = b"authpool-error"
"""The field of the gateway's own answers; an upstream's would pass for one."""


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

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestEndOfMessage):
            self._cover_request()
        yield from super().state_consume_request_body(event)

    def state_stream_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestEndOfMessage):
            self._cover_request()
        yield from super().state_stream_request_body(event)

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
        yield from super().state_wait_for_response_headers(event)

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseTrailers):
            event.trailers.fields = self._clean(event.trailers)
        yield from super().state_consume_response_body(event)

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

    def _begin_attempt(self) -> None:
        super()._begin_attempt()
        self._echo = self._streamed_echo = self._shown = None

    def _ask_for_echo(self) -> Echo | None:
        return Installed.gate.echo_of(self.flow) if Installed.gate is not None else None

    def _clean(self, headers: http.Headers) -> tuple[tuple[bytes, bytes], ...]:
        fields: tuple[tuple[bytes, bytes], ...] = headers.fields
        if any(len(name) == len(OWN_FIELD) and name.lower() == OWN_FIELD for name, _ in fields):
            fields = tuple([field for field in fields if field[0].lower() != OWN_FIELD])
        return fields if self._echo is None else self._echo.fields(fields)

    def _cover_request(self) -> None:
        """Cover what the flow is about to show of the request's body; `_restore` knows what the upstream is to get."""
        if not self.request_body_buf or Installed.gate is None or not Installed.gate.hides_request(self.flow):
            return
        content = bytes(self.request_body_buf)
        shown = covered(content)
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
        covered = echo.body(content, response.headers.get("content-encoding", "").strip().lower())
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
