"""The wire: the one place that touches what mitmproxy does not promise.

`stream` puts a gate in front of the upstream, `dispatch` calls mitmproxy's addons without the machinery around each,
`message_check` spares messages that are as they should be a slow check. All of it is put in place and taken away
here, once `verify` has found everything it relies on.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import mitmproxy.version
from mitmproxy import addonmanager, http
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import RequestHeaders
from mitmproxy.proxy.layers.http._http2 import Http2Client

from authpool.errors import ConfigurationError
from authpool.proxy.wire import listeners
from authpool.proxy.wire.dispatch import dispatch, fast_trigger_event, stock_trigger_event
from authpool.proxy.wire.message_check import check_as_ever, check_quickly
from authpool.proxy.wire.stream import (
    MAX_HELD_ANSWER_BYTES,
    AuthpoolUpstreamAnswerHook,
    Gate,
    GatewayStream,
    Installed,
)

__all__ = [
    "MAX_HELD_ANSWER_BYTES",
    "AuthpoolUpstreamAnswerHook",
    "Gate",
    "GatewayStream",
    "close",
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
    http_layer.HttpStream = GatewayStream  # type: ignore[misc]


def install(gate: Gate, refusal: Callable[[], http.Response], *, fast_dispatch: bool) -> None:
    """Put the gate up. Raises ConfigurationError when this mitmproxy is not the one the gate was built for."""
    verify()
    close(refusal)
    Installed.gate = gate
    dispatch(fast=fast_dispatch)
    check_quickly()


def remove(gate: Gate) -> None:
    """Take this gate away; the stream stays, and refuses everything until another gate comes."""
    if Installed.gate is gate:
        Installed.gate = None
        dispatch(fast=False)
        check_as_ever()


def uninstall() -> None:
    """Leave mitmproxy as it was. For tests: a gateway never does this, for mitmproxy alone fails open."""
    Installed.gate = Installed.refusal = None
    http_layer.HttpStream = HttpStream  # type: ignore[misc]
    dispatch(fast=False)
    check_as_ever()


_STREAM_METHODS = {
    "_handle_event": ["self", "event"],
    "state_consume_response_body": ["self", "event"],
    "start_request_stream": ["self"],
    "start_response_stream": ["self"],
    "flow_done": ["self"],
    "send_response": ["self", "already_streamed"],
    "make_server_connection": ["self"],
    "check_killed": ["self", "emit_error_hook"],
    "state_done": ["self", "_"],
    "state_wait_for_response_headers": ["self", "event"],
}


def verify() -> None:
    """Check that mitmproxy still has everything this module relies on. Raises ConfigurationError naming what not."""
    missing = [
        f"HttpStream.{name}"
        for name, parameters in _STREAM_METHODS.items()
        if _parameters(getattr(HttpStream, name, None)) != parameters
    ]
    if "HttpStream" not in http_layer.HttpLayer.make_stream.__code__.co_names:
        missing.append("HttpLayer.make_stream")
    if [f.name for f in fields(RequestHeaders)][:3] != ["stream_id", "request", "end_stream"]:
        missing.append("RequestHeaders")
    if [f.name for f in fields(SendHttp) if f.init] != ["event", "connection"]:
        missing.append("SendHttp")
    if "our_stream_id" not in Http2Client.__annotations__:
        missing.append("Http2Client.our_stream_id")
    if _parameters(stock_trigger_event) != ["self", "event"] or not hasattr(addonmanager, "cut_traceback"):
        missing.append("AddonManager.trigger_event")
    missing += listeners.missing()
    if missing:
        raise ConfigurationError(
            f"mitmproxy {mitmproxy.version.VERSION}",
            f"lacks what the gateway relies on ({', '.join(missing)}).",
            "Install a version that authpool supports: mitmproxy>=12.2,<13.",
        )


def _parameters(function: Any) -> list[str] | None:
    return list(inspect.signature(function).parameters) if callable(function) else None
