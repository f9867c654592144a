"""Answers to HEAD: whoever set a body, the head alone goes out. A client takes what follows it for its next answer."""

from mitmproxy import http
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import ResponseData, ResponseHeaders, ResponseProtocolError

WITH_BODY = (ResponseData, ResponseProtocolError)
"""Events that bring a body: a piece of one, or an error page of mitmproxy's."""


def head_of(command: SendHttp, stream_id: int, *, is_http1: bool, begun: bool) -> SendHttp | None:
    """What to send instead of one of `WITH_BODY`; None: nothing. `begun`: the answer's head is out already.

    mitmproxy's error pages over HTTP/1 are cut where they are written, by `own_port`.
    """
    event = command.event
    if not isinstance(event, ResponseProtocolError):
        return None
    status = event.code.http_status_code()
    if status is None or begun or is_http1:
        return command
    page = http.Response.make(status, b"", {"content-type": "text/html"})
    del page.headers["content-length"]
    return SendHttp(ResponseHeaders(stream_id, page, end_stream=True), command.connection)
