"""What any web page could have a browser send, and who made it: such a request gets nothing from a pool.

A page reaches a gateway in two ways. Its browser sends the request across sites and says so (`Sec-Fetch-Site`,
`Origin`), which no page can keep it from. Or the page's own name is made to lead to the gateway (DNS rebinding), so
that the browser takes both for one site; then the name that stands in Host is the page's.
"""

from functools import lru_cache

from mitmproxy import http
from mitmproxy.proxy.mode_specs import ReverseMode

from authpool.config import GatewayConfig
from authpool.config.host_pattern import canonical_host
from authpool.config.origin import canonical_origin, origin_of
from authpool.config.pool_config import PoolConfig
from authpool.proxy.clients import is_identified
from authpool.proxy.listener_names import are_its_names
from authpool.proxy.wire.addressed import Names, names_noted
from authpool.requests.refusals import CROSS_SITE, FOREIGN_NAME, Refusal

OWN_SITE = frozenset({b"same-origin", b"none"})
"""What a browser says of a request that no other site's page makes: that origin itself, or its user."""
_LENGTHS = frozenset(map(len, (b"origin", b"sec-fetch-site")))


def refusal_for_page(flow: http.HTTPFlow, gateway: GatewayConfig, pool: PoolConfig | None) -> Refusal | None:
    """Why a request may be the doing of a web page that nobody allowed; None where it can't be, or may.

    Of a request of no pool the upstream can judge by itself what comes across sites. In reverse mode it can't by
    Host, which mitmproxy writes over.
    """
    names = names_noted(flow.request)
    if pool is None and names is None:
        return None
    if is_identified(flow):
        return None
    if names is not None and not are_its_names(flow.client_conn, names, gateway.listener_names):
        return FOREIGN_NAME
    if pool is None and isinstance(flow.client_conn.proxy_mode, ReverseMode):
        return None
    return _refusal_across_sites(flow, names, frozenset() if pool is None else pool.allowed_origins)


def refusal_for_probe(flow: http.HTTPFlow, gateway: GatewayConfig) -> Refusal | None:
    """The same for a request that the gateway answers itself."""
    if is_identified(flow):
        return None
    names = names_noted(flow.request)
    if names is not None and not are_its_names(flow.client_conn, names, gateway.listener_names):
        return FOREIGN_NAME
    return _refusal_across_sites(flow, names, frozenset())


def _refusal_across_sites(flow: http.HTTPFlow, names: Names | None, allowed: frozenset[str]) -> Refusal | None:
    """Why a request is refused that a browser says another site's page makes, unless that page is allowed."""
    told = [(name.lower(), value.strip()) for name, value in flow.request.headers.fields if len(name) in _LENGTHS]
    if not told:  # as of whatever is no browser
        return None
    origins = [value for name, value in told if name == b"origin"]
    sites = [value for name, value in told if name == b"sec-fetch-site"]
    if not origins and not sites:
        return None
    pages = {canonical_origin(origin.decode("latin-1")) for origin in origins}
    if pages and pages <= allowed:
        return None
    if any(site.lower() not in OWN_SITE for site in sites) or pages - {_own_origin(flow, names)} or None in pages:
        return CROSS_SITE
    return None


def _own_origin(flow: http.HTTPFlow, names: Names | None) -> str | None:
    """The origin that a page has which the same request could be for."""
    request = flow.request
    if names is None:
        host = canonical_host(request.host)
        return None if host is None else origin_of(request.scheme, host, request.port)
    scheme = "https" if flow.client_conn.tls else "http"
    return _origin_at(scheme, names[0]) if names else None


@lru_cache(maxsize=1024)
def _origin_at(scheme: str, authority: bytes) -> str | None:
    return canonical_origin(f"{scheme}://{authority.decode('latin-1')}")
