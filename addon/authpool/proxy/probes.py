"""Requests about the gateway itself: what of its health a flow asks for, by whatever way, and the answer."""

from mitmproxy import http
from mitmproxy.proxy.mode_specs import RegularMode, ReverseMode, UpstreamMode

from authpool.config.endpoint_url import is_loopback
from authpool.config.host_pattern import canonical_host
from authpool.gateway.service import Service
from authpool.proxy.message import answer_to
from authpool.requests import health

METHODS = frozenset({"GET", "HEAD"})
"""What a probe of the proxy's own port is sent with; others there are mitmproxy's to answer."""


def answer_probe(flow: http.HTTPFlow, service: Service, *, stopping: bool) -> http.Response | None:
    """The answer to a request that is about the gateway itself; None when it is about anything else."""
    request = flow.request
    named = canonical_host(request.host) == health.HOST
    probe = _probe(flow, service.snapshot.config.gateway.health_path, named=named)
    if probe is None and not named:
        return None
    answer = health.NOT_FOUND if probe is None else _answer(probe, request.path, service, stopping=stopping)
    return answer_to(request, answer.status, answer.body(), health.HEADERS)


def _probe(flow: http.HTTPFlow, health_path: str | None, *, named: bool) -> health.Probe | None:
    """What is asked for: of the gateway's name, on the proxy's own port, or in reverse mode beneath `health_path`."""
    request, mode = flow.request, flow.client_conn.proxy_mode
    if named:
        return health.probe_at(request.path) if request.scheme == "http" else None
    if isinstance(mode, ReverseMode):
        return None if health_path is None else health.probe_at(request.path, health_path)
    if isinstance(mode, RegularMode | UpstreamMode) and request.method in METHODS and _is_own_port(flow):
        return health.probe_at(request.path)
    return None


def _is_own_port(flow: http.HTTPFlow) -> bool:
    """Whether a request is addressed to the very socket that it came in by."""
    host, port = flow.client_conn.sockname[:2]
    if flow.request.port != port:
        return False
    named = canonical_host(flow.request.host)
    return named == canonical_host(host) or (is_loopback(host) and is_loopback(named))


def _answer(probe: health.Probe, target: str, service: Service, *, stopping: bool) -> health.Answer:
    if probe == "live":
        return health.LIVE
    if stopping:
        return health.STOPPING
    configured = service.snapshot.config.pools
    names = health.pools_asked_for(target) or configured
    if not configured.keys() >= set(names):
        return health.UNKNOWN_POOL
    return health.readiness(probe, {name: service.readiness.of(configured[name]) for name in names})
