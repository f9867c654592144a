"""Where the requests of no pool may go, by who sends them: an open proxy into the gateway's own network is no default.

A pool's hosts are reached by whoever may use the gateway. Of the rest, other machines' clients reach what
`unmatched` lets them, and of that no address that only this machine and its network should reach. Nor do they by a name
that a pool's ``*.`` stands for: whoever can have a name there says where it leads.
"""

import socket
from collections.abc import Callable
from typing import Literal

from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.mode_specs import ReverseMode, UpstreamMode

from authpool.config import GatewayConfig, Unmatched
from authpool.config.endpoint_url import is_loopback
from authpool.config.local_address import is_address, is_local_address, is_odd_address
from authpool.gateway.pools import Snapshot
from authpool.proxy.clients import is_from_elsewhere, is_stranger
from authpool.requests import health
from authpool.requests.refusals import LOCAL_REFUSED, UNMATCHED_REFUSED, Refusal

_DISCARD_PORT = 9


def unmatched_for(gateway: GatewayConfig, *, elsewhere: bool) -> Unmatched:
    """What becomes of requests of no pool, from another machine's client or this one's."""
    if gateway.unmatched is not None:
        return gateway.unmatched
    return "block" if elsewhere and gateway.client_keys != "off" else "pass"


class ConfiguredReach:
    """`authpool.proxy.wire.Reach` by what the configuration in force says."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def how(self, client: Client, server: Server) -> Literal["anywhere", "checked", "nowhere"]:
        if server.address is None or is_operators_choice(client, server) or self._is_named(server.address):
            return "anywhere"
        gateway, elsewhere = self._snapshot().config.gateway, is_from_elsewhere(client)
        if unmatched_for(gateway, elsewhere=elsewhere) == "block" and not self.is_a_pools(server.address):
            return "nowhere"
        return "checked" if elsewhere and not gateway.allow_local else "anywhere"

    def is_local(self, address: str) -> bool:
        return is_local_address(address) or _is_own_address(address)

    def is_a_pools(self, address: tuple[str, int]) -> bool:
        """Whether a pool names this host; what is spoken there may not be known yet."""
        router, (host, port) = self._snapshot().router, address[:2]
        return router.manages("https", host, port) or router.manages("http", host, port)

    def _is_named(self, address: tuple[str, int]) -> bool:
        """Whether a pool names this very host."""
        router, (host, port) = self._snapshot().router, address[:2]
        return router.names("https", host, port) or router.names("http", host, port)

    def rule(self, client: Client) -> Unmatched:
        """What becomes of this client's requests of no pool."""
        return unmatched_for(self._snapshot().config.gateway, elsewhere=is_from_elsewhere(client))

    def refusal_of_request(self, flow: http.HTTPFlow) -> Refusal | None:
        """Why a request of no pool is not sent; None where it may be, as far as can be told before a connection is."""
        gateway, stranger = self._snapshot().config.gateway, is_stranger(flow)
        if unmatched_for(gateway, elsewhere=stranger) == "block":
            return UNMATCHED_REFUSED
        if not stranger or gateway.allow_local or not isinstance(flow.client_conn.proxy_mode, UpstreamMode):
            return None
        # The upstream proxy resolves names, and connects; what is an address, though, can be told here.
        return LOCAL_REFUSED if self._is_plainly_local(flow.request.host) and not self._names(flow) else None

    def refusal_of_tunnel(self, flow: http.HTTPFlow) -> Refusal | None:
        """Why a CONNECT is refused."""
        if self._names(flow) or flow.request.host.lower() == health.HOST:
            return None
        return self.refusal_of_request(flow)

    def refuses_connection(self, flow: http.HTTPFlow, server: Server) -> bool:
        """Whether a request of no pool must not be sent over a connection, for the address that it leads to."""
        if not is_stranger(flow) or self._snapshot().config.gateway.allow_local:
            return False
        if server.via is not None or server.peername is None or server.address is None:
            return False
        return self.is_local(server.peername[0]) and not self._is_named(server.address)

    def _names(self, flow: http.HTTPFlow) -> bool:
        return self.is_a_pools((flow.request.host, flow.request.port))

    def _is_plainly_local(self, host: str) -> bool:
        name = host.lower().removesuffix(".")
        if is_loopback(name) or name.endswith(".localhost") or is_odd_address(name):
            return True
        return is_address(name) and self.is_local(name)


def is_operators_choice(client: Client, server: Server) -> bool:
    """Whether a connection leads where the mode of the listener says, and not where the client wants it to."""
    mode = client.proxy_mode
    return isinstance(mode, ReverseMode | UpstreamMode) and server.address == mode.address


def _is_own_address(text: str) -> bool:
    """Whether an address, public as it may be, is one of this machine's: then the kernel would send from it.

    Nothing is sent.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((text, _DISCARD_PORT))
            return bool(probe.getsockname()[0] == text)
    except OSError:
        return False  # it can't be reached at all
