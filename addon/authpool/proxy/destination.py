"""Where a request goes, and whether all of it says so: a credential is for one destination and no other.

The client chooses the Host header, and in a tunnel the TLS server name; by either of them can a server that many
share (a CDN, a hosting platform) hand the request to somebody else. mitmproxy also checks the upstream's
certificate against the server name that the client sent.
"""

from collections.abc import Callable
from functools import lru_cache

from mitmproxy import ctx, http
from mitmproxy.connection import Server
from mitmproxy.net.http import url
from mitmproxy.proxy.mode_specs import ReverseMode, UpstreamMode

from authpool.config.endpoint_url import is_loopback
from authpool.config.host_pattern import canonical_host
from authpool.config.routing import Destination
from authpool.proxy.request_head import head_of, hosts_named
from authpool.proxy.wire.addressed import names_noted


def destination_of(request: http.Request) -> Destination:
    """Where mitmproxy is to send this request; never what its Host header says."""
    return request.scheme, request.host, request.port


def destination_reached(server: Server) -> Destination:
    """Where this connection leads."""
    host, port = (server.address or ("", 0))[:2]
    return "https" if server.tls else "http", host, port


def names_another_host(flow: http.HTTPFlow) -> bool:
    """Whether Host or the authority of the target (in HTTP/2 :authority) name another host than the request goes to.

    In reverse mode Host and :authority are mitmproxy's own words, or the client's where the operator chose
    `keep_host_header`; anything else is another addon's. A target with an authority (absolute-form) may name the
    listener there as well.
    """
    request, head = flow.request, head_of(flow.request)
    named, destination = hosts_named(head), destination_of(request)
    if len(named) > 1 + bool(head[2]):
        return True
    others = [one for one in named if not names(one, destination)]
    if not others:
        return False
    if not isinstance(flow.client_conn.proxy_mode, ReverseMode):
        return True
    kept = (names_noted(request) or ()) if ctx.options.keep_host_header else ()
    origin_form_follows = not (request.is_http2 or request.is_http3)  # an authority does not go out then
    return not all(
        one in kept or (origin_form_follows and one is head[2] and _is_listener(one, flow.client_conn.sockname[:2]))
        for one in others
    )


def takes_origin_form(flow: http.HTTPFlow) -> bool:
    """Whether the upstream of an HTTP/1 request is the server itself, which is told a path, and not another proxy."""
    request = flow.request
    to_a_proxy = isinstance(flow.client_conn.proxy_mode, UpstreamMode) and request.scheme == "http"
    return not (to_a_proxy or request.is_http2 or request.is_http3)


def asks_for_another_host(server: Server) -> bool:
    """Whether the TLS server name (and so the certificate) of this connection is another host's."""
    host = destination_reached(server)[1]
    return bool(server.tls and server.sni) and canonical_host(server.sni or "") != canonical_host(host)


def shows_to_a_proxy(server: Server) -> bool:
    """Whether an upstream proxy on another machine would get to read the request."""
    return server.via is not None and not server.tls and not is_loopback(server.via[1][0])


@lru_cache(maxsize=4096)  # asked of every request, and clients choose what they name
def names(authority: bytes, destination: Destination) -> bool:
    """Whether an authority is this destination's; a port that is not said is any, and nothing is nobody else's."""
    return not authority or _matches(
        authority, destination[2], lambda host: canonical_host(host) == canonical_host(destination[1])
    )


@lru_cache(maxsize=4096)
def _is_listener(authority: bytes, listener: tuple[str, int]) -> bool:
    """Whether an authority is the socket that the client has connected to, by whatever name of this machine."""
    host, port = listener
    local = is_loopback(host)
    return _matches(
        authority, port, lambda name: canonical_host(name) == canonical_host(host) or (local and is_loopback(name))
    )


def _matches(authority: bytes, port: int, is_host: Callable[[str], bool]) -> bool:
    try:
        named, its_port = url.parse_authority(authority.decode("ascii"), check=True)
    except ValueError:
        return False
    return its_port in {None, port} and is_host(named)
