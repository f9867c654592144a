"""A message that is here whole goes out in one write; one that is still coming does not wait for its body."""

import pytest
from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from authpool.proxy.wire.http1 import MAX_JOINED_BYTES, GatewayHttp1Client
from authpool.proxy.wire.own_port import OwnPortHttp1Server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def context() -> Context:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0, state=ConnectionState.OPEN)
    found = Context(client, Options())
    found.server = Server(address=("127.0.0.1", 3))
    found.server.state = ConnectionState.OPEN
    return found


def written(layer: OwnPortHttp1Server | GatewayHttp1Client, event: events.Event) -> list[bytes]:
    """What goes to the socket upon an event, write by write."""
    return [command.data for command in layer.handle_event(event) if isinstance(command, commands.SendData)]


def server(method: str = "GET") -> OwnPortHttp1Server:
    """The client's side, which has read a request."""
    layer = OwnPortHttp1Server(context())
    written(layer, events.Start())
    request = f"{method} http://x/ HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    written(layer, events.DataReceived(layer.conn, request))
    return layer


def answer(body: bytes | None = b"done", *, stream: bool = False, **headers: str) -> http.Response:
    response = http.Response.make(200, b"done", headers)
    response.data.content, response.stream = body, stream
    return response


def test_an_answer_that_is_here_goes_out_at_once() -> None:
    """The head waits for the body, which follows in the same step; chunked or not."""
    layer = server()
    assert written(layer, ResponseHeaders(1, answer())) == []
    assert written(layer, ResponseData(1, b"done")) == [HEAD + b"done"]
    assert written(layer, ResponseEndOfMessage(1)) == []

    layer = server()
    chunked = answer(**{"transfer-encoding": "chunked"})
    assert written(layer, ResponseHeaders(1, chunked)) == []
    (whole,) = written(layer, ResponseData(1, b"done"))
    assert whole.endswith(b"\r\n\r\n4\r\ndone\r\n")
    assert written(layer, ResponseEndOfMessage(1)) == [b"0\r\n\r\n"]


@pytest.mark.parametrize(
    ("method", "response", "end_stream"),
    (
        ("GET", answer(stream=True), False),
        ("GET", answer(None, stream=True), False),
        ("GET", answer(b""), True),
        ("HEAD", answer(), False),
        ("GET", answer(b"x" * (MAX_JOINED_BYTES + 1)), False),
    ),
    ids=("stream", "stream-empty", "no-body", "head", "long"),
)
def test_a_head_waits_for_nothing_that_may_not_come(method: str, response: http.Response, *, end_stream: bool) -> None:
    """A stream's head goes out before there is a body, and so does one whose body is not sent at all."""
    assert written(server(method), ResponseHeaders(1, response, end_stream)) == [HEAD]


def test_a_head_is_not_lost_where_no_body_follows() -> None:
    """Whatever comes instead of the body, the head goes out before it."""
    layer = server()
    assert written(layer, ResponseHeaders(1, answer())) == []
    assert written(layer, ResponseEndOfMessage(1)) == [HEAD]
    layer = server()
    assert written(layer, ResponseHeaders(1, answer())) == []
    assert written(layer, ResponseProtocolError(1, "broken off", ErrorCode.GENERIC_SERVER_ERROR)) == [HEAD]


def test_a_request_that_is_here_goes_out_at_once() -> None:
    """Likewise towards the upstream, but for an upload that streams."""
    request = http.Request.make("POST", "http://x/", b"body")
    layer = GatewayHttp1Client(context())
    written(layer, events.Start())
    assert written(layer, RequestHeaders(1, request, end_stream=False)) == []
    (whole,) = written(layer, RequestData(1, b"body"))
    assert whole.startswith(b"POST / HTTP/1.1\r\n")
    assert whole.endswith(b"\r\n\r\nbody")
    assert written(layer, RequestEndOfMessage(1)) == []

    request.stream = True
    layer = GatewayHttp1Client(context())
    written(layer, events.Start())
    assert len(written(layer, RequestHeaders(1, request, end_stream=False))) == 1
    assert written(layer, RequestData(1, b"body")) == [b"body"]
