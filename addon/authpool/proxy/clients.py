"""Who asks: this machine or another, and whether it has shown who it is."""

from mitmproxy import http
from mitmproxy.connection import Client

from authpool.config.endpoint_url import is_loopback

OWN_TRAFFIC_MODES = frozenset({"local", "tun"})
"""Modes without a listener that others could reach."""


def is_from_elsewhere(client: Client) -> bool:
    """Whether another machine's client is on this connection."""
    if client.proxy_mode.type_name in OWN_TRAFFIC_MODES:
        return False
    return not is_loopback(client.peername[0])


def is_stranger(flow: http.HTTPFlow) -> bool:
    """Whether another machine asks; a replay is the operator's."""
    return flow.is_replay is None and is_from_elsewhere(flow.client_conn)


def is_identified(flow: http.HTTPFlow) -> bool:
    """Whether the operator stands for this request, and no web page: it is a replay."""
    return flow.is_replay is not None
