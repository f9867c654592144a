"""mitmproxy's events about connections, before there is a request: where they lead, and what is left closed."""

import logging

from mitmproxy import http, tls
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientQuicLayer, ClientTLSLayer, ServerQuicLayer, ServerTLSLayer, TCPLayer, UDPLayer
from mitmproxy.proxy.layers.quic import QuicTlsData
from mitmproxy.proxy.mode_specs import ReverseMode

from authpool.proxy.gate import response_of
from authpool.proxy.traffic import Traffic
from authpool.proxy.wire.connecting import NOT_ALLOWED
from authpool.requests.refusals import LOCAL_REFUSED

logger = logging.getLogger(__name__)

MAX_TOLD = 100
"""So many hosts that are not looked into are told of, each once: clients choose what they name."""


class ConnectionHooks:
    """Hooks that decide nothing by themselves: what may be reached, and what is proven there, is the traffic's."""

    def __init__(self) -> None:
        self._traffic: Traffic | None = None
        self._passed_over: set[str] = set()

    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None and NOT_ALLOWED in (flow.server_conn.error or ""):
            flow.response = response_of(LOCAL_REFUSED, flow.request)

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        if self._traffic is None:
            return
        context, chosen = nextlayer.context, nextlayer.layer
        if isinstance(chosen, ServerTLSLayer | ServerQuicLayer | ClientTLSLayer | ClientQuicLayer):
            if self._is_left_closed(self._traffic, context):
                nextlayer.layer = _relay(context)
        elif isinstance(chosen, TCPLayer | UDPLayer):
            self._tell_of_passing(self._traffic, context)
            if not _is_reverse(context) and self._traffic.reach.rule(context.client) == "block":
                nextlayer.layer = _Refused(context)
        if isinstance(nextlayer.layer, TCPLayer | UDPLayer) and not self._traffic.access.may_relay(context):
            nextlayer.layer = _Refused(context)

    def tls_start_server(self, data: tls.TlsData) -> None:
        if self._traffic is not None:
            try:
                self._traffic.upstream_tls.starts(data)
            except Exception:
                self._traffic.upstream_tls.distrust(data.conn)
                raise

    def quic_start_server(self, data: QuicTlsData) -> None:
        if self._traffic is not None:
            try:
                self._traffic.upstream_tls.starts_quic(data)
            except Exception:
                self._traffic.upstream_tls.distrust(data.conn)
                raise

    def tls_established_server(self, data: tls.TlsData) -> None:
        if self._traffic is not None:
            self._traffic.upstream_tls.established(data)

    def _is_left_closed(self, traffic: Traffic, context: Context) -> bool:
        """Whether TLS that a client begins is to be relayed as it is: of no pool's host, and to a destination."""
        address = context.server.address
        if address is None or _is_reverse(context):
            return False
        return traffic.reach.rule(context.client) == "tunnel" and not traffic.reach.is_a_pools(address)

    def _tell_of_passing(self, traffic: Traffic, context: Context) -> None:
        """Say that a pool's host is passed over by an option: then nothing puts a credential on."""
        address = context.server.address
        if address is None or len(self._passed_over) >= MAX_TOLD or not traffic.reach.is_a_pools(address):
            return
        place = f"{address[0]}:{address[1]}"
        if place not in self._passed_over:
            self._passed_over.add(place)
            logger.warning(
                "authpool: what goes to %s is not looked into (ignore_hosts, allow_hosts, tcp_hosts or udp_hosts, or "
                "it is no HTTP): it gets no credential",
                place,
            )


class _Refused(layer.Layer):
    """What is no HTTP is no request of a pool, wherever it leads; nor may every client go everywhere with it."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


def _is_reverse(context: Context) -> bool:
    """Whether the operator has said where all of it goes."""
    return isinstance(context.client.proxy_mode, ReverseMode)


def _relay(context: Context) -> TCPLayer | UDPLayer:
    """Pass on what comes, and keep none of it."""
    return (
        TCPLayer(context, ignore=True) if context.client.transport_protocol == "tcp" else UDPLayer(context, ignore=True)
    )
