"""The wire: the one place that touches what mitmproxy does not promise.

`stream` puts a gate in front of the upstream, `held_answers` says what becomes of an answer, `attempts` lets a
request be sent again, `http1` and `http2` mend what mitmproxy's HTTP lacks, `own_port` takes the probes of load
balancers, `echoes` covers the credential where an answer repeats it, `addressed` notes by which names the listener is
addressed, `connecting` opens connections to addresses that were looked at, `listeners` binds the port once,
`dispatch` calls mitmproxy's addons without the machinery around each, `message_check` spares messages that are as
they should be a slow check, `shortcuts` answers what all requests ask many times. `presented_keys` takes gateway keys
off requests and `log_filter` out of logs, `socks` asks for them, `cut_off` ends what is under way. All of it is put
in place and taken away here, once `verify` has found everything it relies on.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import mitmproxy.version
from h2.connection import H2Connection
from h11._readers import ChunkedReader
from mitmproxy import addonmanager, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, layer, mode_servers, server
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import DropStream, GetHttpConnection, HttpLayer, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestHeaders, RequestProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Client

from authpool.errors import ConfigurationError
from authpool.proxy.wire import connecting, listeners, shortcuts
from authpool.proxy.wire.cut_off import cut_connection
from authpool.proxy.wire.dispatch import dispatch_as_ever, dispatch_fast, fast_trigger_event, stock_trigger_event
from authpool.proxy.wire.held_answers import MAX_HELD_ANSWER_BYTES
from authpool.proxy.wire.http1 import GatewayHttp1Client
from authpool.proxy.wire.http2 import GatewayHttp2Client
from authpool.proxy.wire.installed import AuthpoolUpstreamAnswerHook, Gate, Installed, Reach
from authpool.proxy.wire.log_filter import leave_keys_out, log_as_ever
from authpool.proxy.wire.message_check import check_as_ever, check_quickly
from authpool.proxy.wire.own_port import OwnPortHttp1Server
from authpool.proxy.wire.socks import GatewaySocks5Proxy, SocksLogin
from authpool.proxy.wire.stream import GatewayStream

__all__ = [
    "MAX_HELD_ANSWER_BYTES",
    "AuthpoolUpstreamAnswerHook",
    "Gate",
    "GatewayStream",
    "Reach",
    "SocksLogin",
    "close",
    "cut_connection",
    "dispatch",
    "fast_trigger_event",
    "install",
    "remove",
    "uninstall",
    "verify",
]


def close(refusal: Callable[[], http.Response]) -> None:
    """Put the stream in place without a gate: until one is installed, everything is answered with `refusal`."""
    Installed.refusal = refusal
    connecting.guard_connections()
    leave_keys_out()
    _put_in_place(GatewayStream, GatewayHttp1Client, OwnPortHttp1Server, GatewayHttp2Client, GatewaySocks5Proxy)


def install(gate: Gate, reach: Reach, refusal: Callable[[], http.Response], *, fast_dispatch: bool) -> None:
    """Put the gate up. Raises ConfigurationError when this mitmproxy is not the one the gate was built for."""
    verify()
    close(refusal)
    Installed.gate, Installed.reach = gate, reach
    dispatch(fast=fast_dispatch)


def dispatch(*, fast: bool) -> None:
    """Have mitmproxy call its addons, check its messages and look things up in our way, or in its own."""
    dispatch_fast() if fast else dispatch_as_ever()
    check_quickly() if fast else check_as_ever()
    shortcuts.take() if fast else shortcuts.take_none()


def remove(gate: Gate) -> None:
    """Take this gate away; the stream stays, and refuses everything until another gate comes."""
    if Installed.gate is gate:
        Installed.gate = None
        dispatch(fast=False)


def uninstall() -> None:
    """Leave mitmproxy as it was. For tests: a gateway never does this, for mitmproxy alone fails open."""
    Installed.gate = Installed.reach = Installed.refusal = None
    connecting.connect_as_ever()
    log_as_ever()
    _put_in_place(HttpStream, Http1Client, Http1Server, Http2Client, _STOCK_SOCKS)
    dispatch(fast=False)


def _put_in_place(
    stream: type[HttpStream],
    client: type[Http1Client],
    server: type[Http1Server],
    client2: type[Http2Client],
    socks: type[modes.Socks5Proxy],
) -> None:
    http_layer.HttpStream = stream  # type: ignore[misc]
    http_layer.Http1Client = client  # type: ignore[attr-defined]
    http_layer.Http1Server = server  # type: ignore[attr-defined]
    http_layer.Http2Client = client2  # type: ignore[attr-defined]
    modes.Socks5Proxy = socks  # type: ignore[misc]


_STOCK_SOCKS = modes.Socks5Proxy


_METHODS: tuple[tuple[type, str, list[str]], ...] = (
    (HttpStream, "__init__", ["self", "context", "stream_id"]),
    (HttpStream, "_handle_event", ["self", "event"]),
    (HttpStream, "passthrough", ["self", "event"]),
    (HttpStream, "state_consume_response_body", ["self", "event"]),
    (HttpStream, "state_consume_request_body", ["self", "event"]),
    (HttpStream, "state_stream_request_body", ["self", "event"]),
    (HttpStream, "state_stream_response_body", ["self", "event"]),
    (HttpStream, "start_request_stream", ["self"]),
    (HttpStream, "start_response_stream", ["self"]),
    (HttpStream, "flow_done", ["self"]),
    (HttpStream, "send_response", ["self", "already_streamed"]),
    (HttpStream, "make_server_connection", ["self"]),
    (HttpStream, "state_wait_for_request_headers", ["self", "event"]),
    (HttpStream, "handle_protocol_error", ["self", "event"]),
    (HttpStream, "check_killed", ["self", "emit_error_hook"]),
    (HttpStream, "state_done", ["self", "_"]),
    (HttpStream, "state_errored", ["self", "_"]),
    (HttpStream, "state_wait_for_request_headers", ["self", "event"]),
    (modes.Socks5Proxy, "state_greet", ["self"]),
    (modes.Socks5Proxy, "state_connect", ["self"]),
    (modes.Socks5Proxy, "socks_err", ["self", "message", "reply_code"]),
    (server.ConnectionHandler, "server_event", ["self", "event"]),
    (server.ConnectionHandler, "handle_connection", ["self", "connection"]),
    (HttpStream, "state_wait_for_response_headers", ["self", "event"]),
    (Http1Connection, "read_body", ["self", "event"]),
    (Http1Connection, "send", ["self", "event"]),
    (Http1Client, "read_headers", ["self", "event"]),
    (Http1Client, "send", ["self", "event"]),
    (Http1Server, "read_headers", ["self", "event"]),
    (ChunkedReader, "__call__", ["self", "buf"]),
    (Http2Client, "handle_h2_event", ["self", "event"]),
    (Http2Client, "close_connection", ["self", "msg"]),
    (Http2Client, "protocol_error", ["self", "message", "error_code"]),
    (GetHttpConnection, "connection_spec_matches", ["self", "connection"]),
    (H2Connection, "_receive_goaway_frame", ["self", "frame"]),
    (RequestProtocolError, "__init__", ["self", "stream_id", "message", "code"]),
    (commands.RequestWakeup, "__init__", ["self", "delay"]),
    (addonmanager.AddonManager, "trigger_event", ["self", "event"]),
)
_FIELDS: tuple[tuple[type, list[str]], ...] = (
    (RequestHeaders, ["stream_id", "request", "end_stream"]),
    (SendHttp, ["event", "connection"]),
    (DropStream, ["stream_id"]),
)
_ATTRIBUTES: tuple[tuple[type, str], ...] = (
    (HttpLayer, "streams"),
    (HttpLayer, "command_sources"),
    (modes.Socks5Proxy, "buf"),
    (server.ConnectionHandler, "transports"),
    (Proxyserver, "connections"),
    (HttpLayer, "connections"),
    (HttpLayer, "waiting_for_establishment"),
    (HttpStream, "request_body_buf"),
    (HttpStream, "response_body_buf"),
    (layer.Layer, "_paused_event_queue"),
    (Http1Connection, "body_reader"),
    (Http1Connection, "request"),
    (Http1Connection, "response"),
    (Http1Connection, "buf"),
    (Http2Client, "our_stream_id"),
    (Http2Client, "stream_queue"),
)
_REPLACED = (
    (HttpLayer.make_stream, "HttpStream"),
    (HttpLayer._handle_event, "Http1Server"),  # noqa: SLF001 - the very thing this module is for
    (http_layer.HttpClient._handle_event, "Http1Client"),  # noqa: SLF001
    (http_layer.HttpClient._handle_event, "Http2Client"),  # noqa: SLF001
    (HttpLayer._handle_event, "Http2Client"),  # noqa: SLF001
    (HttpStream.make_server_connection, "GetHttpConnection"),
    (mode_servers.Socks5Instance.make_top_layer, "Socks5Proxy"),
)
"""Where mitmproxy looks a class up by its name, which is why another one can be put in its place."""


def verify() -> None:
    """Check that mitmproxy still has everything this module relies on. Raises ConfigurationError naming what not."""
    missing = [
        f"{kind.__name__}.{name}"
        for kind, name, parameters in _METHODS
        if _parameters(_stock(kind, name)) != parameters
    ]
    missing += [
        kind.__name__
        for kind, names in _FIELDS
        if [field.name for field in fields(kind) if field.init][: len(names)] != names
    ]
    missing += [f"{kind.__name__}.{name}" for kind, name in _ATTRIBUTES if name not in kind.__annotations__]
    missing += [
        function.__qualname__ for function, name in _REPLACED if name not in inspect.unwrap(function).__code__.co_names
    ]
    if not hasattr(ErrorCode, "CANCEL") or not hasattr(ErrorCode, "GENERIC_SERVER_ERROR"):
        missing.append("ErrorCode")
    if not hasattr(addonmanager, "cut_traceback"):
        missing.append("addonmanager.cut_traceback")
    missing += listeners.missing() + connecting.missing() + shortcuts.missing()
    if missing:
        raise ConfigurationError(
            f"mitmproxy {mitmproxy.version.VERSION}",
            f"lacks what the gateway relies on ({', '.join(missing)}).",
            "Install a version that authpool supports: mitmproxy>=12.3,<13.",
        )


def _stock(kind: type, name: str) -> Any:
    """What mitmproxy itself has, whatever is in its place just now."""
    if (kind, name) == (addonmanager.AddonManager, "trigger_event"):
        return stock_trigger_event
    return getattr(kind, name, None)


def _parameters(function: Any) -> list[str] | None:
    return list(inspect.signature(function).parameters) if callable(function) else None
