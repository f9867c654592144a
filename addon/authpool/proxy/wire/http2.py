"""mitmproxy's HTTP/2 towards upstreams, with what it leaves out: an upstream that takes leave in good order.

As it comes, a GOAWAY ends every request on its connection, those the upstream is about to answer too; and whatever
follows it in the same read makes an answer that was complete before it a protocol error. Servers say it after so many
requests, and load balancers whenever they move a connection (RFC 9113 §6.8).
"""

import re
from weakref import WeakSet

from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from hyperframe.frame import Frame, GoAwayFrame
from mitmproxy.connection import Connection
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import GetHttpConnection
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseProtocolError
from mitmproxy.proxy.layers.http._http2 import Http2Client
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

_leaving: WeakSet[Connection] = WeakSet()
"""The connections on which an upstream takes no more requests."""

_OTHERS_WORDS = re.compile(r"[:\s]*(?:\bb?['\"]|, additional_data:).*", re.DOTALL)
"""What h2 repeats in its messages of what it has read, and all that follows it."""


class UnprocessedRequestError(ResponseProtocolError):
    """An upstream says that it has done nothing with a request, which may be sent again (RFC 9113 §8.7)."""


class NewRequestConnection(GetHttpConnection):
    """Asks for a connection that still takes requests."""

    def connection_spec_matches(self, connection: Connection) -> bool:
        return super().connection_spec_matches(connection) and connection not in _leaving


class _Connection(BufferedH2Connection):
    """h2's connection, which goes on reading after a GOAWAY."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        state = self.state_machine.state
        pending = self.data_to_send()  # h2 throws it away, acknowledgements too
        found = super()._receive_goaway_frame(frame)
        self.state_machine.state = state
        self._data_to_send += pending
        return found


class GatewayHttp2Client(Http2Client):
    """The upstream's side."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = self.h2_conn.local_settings
        self.h2_conn = _Connection(self.h2_conf)
        self.h2_conn.local_settings = settings
        self._unsent: list[int] = []

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, HttpEvent) and self.conn in _leaving and event.stream_id not in self.our_stream_id:
            return  # of a request that was not sent before the upstream took leave
        yield from super()._handle_event(event)
        while self._unsent:
            yield ReceiveHttp(self._refused(self._unsent.pop()))
        if self.conn in _leaving and all(map(self.is_closed, self.streams)) and self._handle_event != self.done:
            yield from self.close_connection("the upstream takes no more requests")

    def handle_h2_event(self, event: Event) -> layer.CommandGenerator[bool]:
        if not isinstance(event, ConnectionTerminated) or event.error_code != ErrorCodes.NO_ERROR:
            return (yield from super().handle_h2_event(event))
        _leaving.add(self.conn)
        self._unsent += self.stream_queue
        self.stream_queue.clear()
        for stream_id in [one for one in self.streams if one > (event.last_stream_id or 0)]:
            del self.streams[stream_id]
            yield ReceiveHttp(self._refused(stream_id))
        return False

    def protocol_error(self, message: str, error_code: int = ErrorCodes.PROTOCOL_ERROR) -> layer.CommandGenerator[None]:
        """Say it in the log without the upstream's words: they may repeat a credential."""
        return super().protocol_error(_OTHERS_WORDS.sub("", message), error_code)

    def close_connection(self, msg: str) -> layer.CommandGenerator[None]:
        """Say it to every request under way: what is repeated may be the credential of another one."""
        return super().close_connection(_OTHERS_WORDS.sub("", msg))

    def _refused(self, stream_id: int) -> UnprocessedRequestError:
        return UnprocessedRequestError(
            stream_id, "the upstream takes no more requests on this connection", ErrorCode.GENERIC_SERVER_ERROR
        )
