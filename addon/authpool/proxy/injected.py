"""A request as an injector is shown it, and with what that puts on. The copy is never shown to anyone. Pure."""

from urllib.parse import quote

from mitmproxy import http

from authpool.config.pool_config import PoolConfig
from authpool.proxy.credential import fields_sent, shallow_copy, with_parameter, without_parameters
from authpool.proxy.request_head import Fields, fields_left
from authpool.requests.guarded_injector import GuardedInjector
from authpool.requests.injector import Injected, OutgoingRequest, RequestBody

_PLACE = b"authorization"
"""Where the flow has the placeholder."""


def take_off(request: http.Request, injector: GuardedInjector) -> None:
    """Take off what a client sends credentials in of the kind that this injector puts on."""
    fields = request.headers.fields
    left = fields_left(fields, injector.client_headers, narrowed=False)
    if len(left) != len(fields):
        request.headers.fields = left
    if injector.client_parameters and b"?" in request.data.path:
        request.path = without_parameters(request.path, injector.client_parameters, any_case=True)


def outgoing(
    request: http.Request, pool: PoolConfig, fields: Fields | None, body: RequestBody | None
) -> OutgoingRequest:
    """Show a request as it goes out, from these fields where they are not its own; `body`: as it was shown before."""
    content = None if request.stream else request.data.content or b""
    if body is None or body.content is not content:
        body = RequestBody(content)
    return OutgoingRequest(
        method=_text(request.data.method),
        scheme=_text(request.data.scheme),
        host=_host(request),
        target=_text(request.data.path.partition(b"#")[0]),
        headers=tuple(
            [
                (_text(name).lower(), _text(value))
                for name, value in _sent(request, pool, fields)
                if name.lower() != b"host"
            ]
        ),
        body=body,
    )


def with_injected(
    request: http.Request, pool: PoolConfig, injected: Injected, fields: Fields | None = None
) -> http.Request:
    """Copy a request, with what was put on in the place of what it had by these names."""
    replaced = frozenset(name.lower().encode() for name in injected.headers)
    sent = [field for field in _sent(request, pool, fields) if field[0].lower() not in replaced]
    lower = _has_frames(request)  # RFC 9113 §8.2.1
    sent += [
        ((name.lower() if lower else name).encode(), value.encode("latin-1"))
        for name, value in injected.headers.items()
        if value is not None
    ]
    wire = shallow_copy(request)
    wire.data = shallow_copy(request.data)
    wire.data.headers = shallow_copy(request.headers)
    wire.data.headers.fields = tuple(sent)
    path = without_parameters(request.path.partition("#")[0], frozenset(injected.query))
    for name, value in injected.query.items():
        path = path if value is None else with_parameter(path, quote(name, safe=""), value)
    wire.data.path = path.encode("utf-8", "surrogateescape")
    return wire


def secrets_of(injected: Injected) -> tuple[str, ...]:
    """What an answer must not show of it."""
    if injected.secrets is not None:
        return injected.secrets
    return tuple(value for value in (*injected.headers.values(), *injected.query.values()) if value)


def _sent(request: http.Request, pool: PoolConfig, fields: Fields | None) -> list[tuple[bytes, bytes]]:
    """The fields that go out; a Host beside ``:authority`` is left out, so that there is one name for it."""
    left_out = {_PLACE, b"host"} if _has_frames(request) and request.data.authority else {_PLACE}
    return [field for field in fields_sent(request, pool, fields) if field[0].lower() not in left_out]


def _host(request: http.Request) -> str:
    """What the upstream goes by: ``:authority``, and in HTTP/1 the field Host whatever the target says."""
    field = next((value for name, value in request.headers.fields if name.lower() == b"host"), b"")
    authority: bytes = request.data.authority
    return _text(authority or field if _has_frames(request) else field or authority)


def _has_frames(request: http.Request) -> bool:
    return bool(request.is_http2 or request.is_http3)


def _text(data: bytes) -> str:
    return data.decode("latin-1")
