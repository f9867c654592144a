"""Who an upstream is, by its certificate: for pools' hosts that is always verified, whatever `ssl_insecure` says."""

import ssl
from weakref import WeakSet

from mitmproxy import tls
from mitmproxy.connection import Connection
from mitmproxy.proxy.layers.quic import QuicTlsData
from OpenSSL import SSL

from authpool.proxy.reach import ConfiguredReach


class UpstreamTls:
    """Has the certificates of pools' hosts verified, and knows the connections that prove nothing."""

    def __init__(self, reach: ConfiguredReach) -> None:
        self._reach = reach
        self._unproven: WeakSet[Connection] = WeakSet()

    def is_proven(self, connection: Connection) -> bool:
        """Whether what is sent over a connection reaches the host it is for, as far as TLS is asked."""
        return not self._unproven or connection not in self._unproven

    def starts(self, data: tls.TlsData) -> None:
        """A handshake with an upstream is about to begin; mitmproxy has said how."""
        if data.ssl_conn is None or (data.ssl_conn.get_verify_mode() & SSL.VERIFY_PEER and data.conn.sni):
            return
        if self._is_a_pools(data.conn) and data.conn.sni:  # without a name mitmproxy compares none
            data.ssl_conn.set_verify(SSL.VERIFY_PEER)
        else:
            self._unproven.add(data.conn)

    def starts_quic(self, data: QuicTlsData) -> None:
        """The same by QUIC."""
        if data.settings is None or data.settings.verify_mode == ssl.CERT_REQUIRED:
            return
        if self._is_a_pools(data.conn):
            data.settings.verify_mode = ssl.CERT_REQUIRED
        else:
            self._unproven.add(data.conn)

    def established(self, data: tls.TlsData) -> None:
        """A handshake has succeeded: an upstream may do without a certificate, where the ciphers allow it."""
        if not data.conn.certificate_list:
            self._unproven.add(data.conn)

    def distrust(self, connection: Connection) -> None:
        """It could not be seen to that a connection proves anything."""
        self._unproven.add(connection)

    def _is_a_pools(self, connection: Connection) -> bool:
        address = getattr(connection, "address", None)
        return address is not None and self._reach.is_a_pools(address)
