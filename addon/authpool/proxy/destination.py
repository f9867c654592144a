"""Where a request goes, and whether all of it says so: a credential is for one destination and no other.

The client chooses the Host header, and in a tunnel the TLS server name; by either of them can a server that many
share (a CDN, a hosting platform) hand the request to somebody else. mitmproxy also checks the upstream's
certificate against the server name that the client sent.
"""

from functools import lru_cache

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.net.http import url
from mitmproxy.proxy.mode_specs import ReverseMode

from authpool.config.endpoint_url import is_loopback
from authpool.config.host_pattern import canonical_host
from authpool.config.routing import Destination


def destination_of(request: http.Request) -> Destination:
    """Where mitmproxy is to send this request; never what its Host header says."""
    return request.scheme, request.host, request.port


def destination_reached(server: Server) -> Destination:
    """Where this connection leads."""
    host, port = (server.address or ("", 0))[:2]
    return "https" if server.tls else "http", host, port


def names_another_host(flow: http.HTTPFlow) -> bool:
    """Whether Host or :authority name another host than the one the request goes to.

    In reverse mode they can't: mitmproxy sets them itself, unless the operator chose `keep_host_header`.
    """
    if isinstance(flow.client_conn.proxy_mode, ReverseMode):
        return False
    request = flow.request
    named = [*request.headers.get_all("host"), request.authority]
    return any(not _is_host(authority, request.host) for authority in named if authority)


def asks_for_another_host(server: Server) -> bool:
    """Whether the TLS server name (and so the certificate) of this connection is another host's."""
    host = destination_reached(server)[1]
    return bool(server.tls and server.sni) and canonical_host(server.sni or "") != canonical_host(host)


def shows_to_a_proxy(server: Server) -> bool:
    """Whether an upstream proxy on another machine would get to read the request."""
    return server.via is not None and not server.tls and not is_loopback(server.via[1][0])


@lru_cache(maxsize=4096)  # asked of every request, and clients choose what they name
def _is_host(authority: str, host: str) -> bool:
    if authority == host:
        return True
    try:
        named, _ = url.parse_authority(authority, check=True)
    except ValueError:
        return False
    return canonical_host(named) == canonical_host(host)
