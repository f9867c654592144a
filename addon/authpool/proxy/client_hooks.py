"""mitmproxy's events about connections: tunnels, SOCKS logins, what is no HTTP; a part of the addon."""

import logging

from mitmproxy import connection, http, tcp, udp

from authpool.proxy import wire
from authpool.proxy.traffic import Traffic

logger = logging.getLogger(__name__)


class ClientHooks:
    """Hooks that let a client's connection in, or see it end. The addon says what it knows."""

    _traffic: Traffic | None
    _serving: bool
    _stopping: bool

    async def until_started(self) -> bool:
        """Wait until the accounts and clients are loaded; whether they are."""
        raise NotImplementedError

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None or self._traffic is None:
            return  # answered already; without a gateway the wire refuses what comes through the tunnel
        try:
            if not self._serving and not self._stopping:
                await self.until_started()
            self._traffic.connect(flow)
        except Exception:
            logger.exception("authpool failed; the request is refused")
            self._traffic.refuse(flow)

    def http_connected(self, flow: http.HTTPFlow) -> None:
        if self._traffic is not None:
            self._traffic.access.connected(flow.client_conn)

    async def authpool_socks_login(self, login: wire.SocksLogin) -> None:
        if self._traffic is not None:
            if not self._serving and not self._stopping:
                await self.until_started()
            self._traffic.access.login(login)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        if self._traffic is not None:
            self._traffic.access.closed(flow)

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        self._check_raw(flow)

    def udp_start(self, flow: udp.UDPFlow) -> None:
        self._check_raw(flow)

    def _check_raw(self, flow: tcp.TCPFlow | udp.UDPFlow) -> None:
        if self._traffic is None:
            return
        try:
            self._traffic.access.check_raw(flow)
        except Exception:
            logger.exception("authpool failed; the connection is cut off")
            wire.cut_connection(flow.client_conn)

    def client_disconnected(self, client: connection.Client) -> None:
        if self._traffic is not None:
            self._traffic.access.disconnected(client)
