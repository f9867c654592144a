"""The connections to upstreams that one client's requests share."""

from mitmproxy.connection import Server
from mitmproxy.proxy.layers.http import HttpLayer


def forget_failed_connections(layer: HttpLayer) -> None:
    """Let what could not be connected be tried again.

    Each request that waited for the connection was told of its error. mitmproxy alone answers every later one by that
    error too, as long as the client's own connection lasts.
    """
    for connection in (*layer.connections, layer.context.server):
        if not isinstance(connection, Server) or not connection.error or connection.connected:
            continue
        if connection in layer.waiting_for_establishment:
            continue
        connection.error = None
        if connection.timestamp_tcp_setup is None:
            layer.connections.pop(connection, None)  # it was never open, so nothing more is heard of it
