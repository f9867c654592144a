"""Taking the client's credential off a request, and putting an account's on a copy of it. Pure."""

from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote_plus

from mitmproxy import http

from authpool.config.pool_config import BasicInjection, HeaderInjection, PluginInjection, PoolConfig, QueryInjection
from authpool.proxy.request_head import LEFT_OUT, OVERRIDE_PARAMETERS, Fields, fields_left, spelled

PLACEHOLDER: Final = "[authpool]"
CREDENTIAL_HEADERS: Final = frozenset({b"authorization", b"proxy-authorization", b"x-api-key", b"x-goog-api-key"})
"""What clients send credentials or gateway keys in; none of them travels upstream."""
CREDENTIAL_PARAMETER: Final = "access_token"  # RFC 6750 §2.3
_CREDENTIAL_PARAMETERS: Final = frozenset({CREDENTIAL_PARAMETER})
_DROPPED: Final = CREDENTIAL_HEADERS | LEFT_OUT
_IDENTITY: Final = (b"accept-encoding", b"identity")


def strip_credentials(request: http.Request, pool: PoolConfig) -> None:
    """Take off every credential the client sent and what would undo the pool's choice; show where ours will be."""
    inject = pool.inject
    if isinstance(inject, QueryInjection):
        path = _own_path(request.path, pool, frozenset({CREDENTIAL_PARAMETER, inject.parameter}))
        request.path = with_parameter(path, inject.parameter, PLACEHOLDER)
        request.headers.fields = _fields_left(request, pool, _DROPPED)
        return
    if b"?" in request.data.path or b"#" in request.data.path:
        request.path = _own_path(request.path, pool, _CREDENTIAL_PARAMETERS)
    placeholder = (_header_name(request, inject), inject.shown(PLACEHOLDER).encode())
    request.headers.fields = (*_fields_left(request, pool, _dropped(inject.header)), placeholder)


def _own_path(path: str, pool: PoolConfig, names: frozenset[str]) -> str:
    path = without_parameters(path.partition("#")[0], names)
    return _without_overrides(path) if pool.methods or pool.paths else path


@lru_cache(maxsize=64)
def _dropped(header: str) -> frozenset[bytes]:
    """What a client's own credential may be in, in the spelling that compares, where ours goes in this header."""
    return _DROPPED | {spelled(header.encode())}


def clean_after_change(request: http.Request, pool: PoolConfig) -> Fields:
    """The fields of a request that somebody changed since `strip_credentials`, as they may go on."""
    return _fields_left(request, pool, LEFT_OUT)


def _fields_left(request: http.Request, pool: PoolConfig, dropped: frozenset[bytes]) -> Fields:
    return fields_left(request.headers.fields, dropped, narrowed=bool(pool.paths or pool.methods))


def with_credential(
    request: http.Request, pool: PoolConfig, access_token: str, fields: Fields | None = None
) -> http.Request:
    """Copy a request, with the credential in place of its placeholder. The copy is never shown to anyone.

    `fields` go out instead of its own. With `redact_echo` an answer that can be read as it comes is asked for.
    Raises ValueError for a token that would be more than a value, such as one with a line end in it, and TypeError
    where a plugin is to put it on.
    """
    if not access_token.isprintable():
        raise ValueError("the access token holds a character that no header may have")
    wire = shallow_copy(request)
    wire.data = shallow_copy(request.data)
    sent = fields_sent(request, pool, fields)
    if isinstance(pool.inject, QueryInjection):
        path = without_parameters(request.path.partition("#")[0], frozenset({pool.inject.parameter}))
        path = with_parameter(path, pool.inject.parameter, pool.inject.render(access_token))
        wire.data.path = path.encode("utf-8", "surrogateescape")
    else:
        if isinstance(pool.inject, PluginInjection):
            raise TypeError("a plugin puts the credential of this pool on")
        name = _header_name(request, pool.inject)
        lower = name.lower()
        sent = (
            *[field for field in sent if field[0].lower() != lower],
            (name, pool.inject.render(access_token).encode()),
        )
    if sent is not request.headers.fields:
        wire.data.headers = shallow_copy(request.headers)
        wire.data.headers.fields = sent
    return wire


def fields_sent(request: http.Request, pool: PoolConfig, fields: Fields | None) -> Fields:
    """The fields that go out, but for the credential: these where they are given, else the request's own."""
    sent: Fields = request.headers.fields if fields is None else fields
    if not pool.redact_echo:
        return sent
    return (*[field for field in sent if field[0].lower() != b"accept-encoding"], _IDENTITY)


def with_fields(request: http.Request, fields: Fields) -> http.Request:
    """Copy a request whose flow shows less: what the placeholder stands for is put back, from these fields."""
    hidden = [value for name, value in fields if name.lower() == b"authorization"]
    wire = shallow_copy(request)
    wire.data = shallow_copy(request.data)
    wire.data.headers = http.Headers()
    wire.data.headers.fields = tuple(
        [
            (name, hidden.pop(0) if value == PLACEHOLDER.encode() and hidden else value)
            for name, value in request.headers.fields
        ]
    )
    return wire


def shallow_copy[T](original: T) -> T:
    """`copy.copy`, for the plain objects that mitmproxy's messages are, at a fraction of its cost."""
    duplicate = object.__new__(type(original))
    duplicate.__dict__.update(original.__dict__)
    return duplicate


def _header_name(request: http.Request, inject: HeaderInjection | BasicInjection | PluginInjection) -> bytes:
    # Upper case is an error in HTTP/2 and HTTP/3 (RFC 9113 §8.2.1).
    return (inject.header.lower() if request.is_http2 or request.is_http3 else inject.header).encode()


def without_parameters(path: str, names: frozenset[str], *, any_case: bool = False) -> str:
    """Remove query parameters, and leave every other byte of the path as the client wrote it.

    With `any_case` the names are in small letters, and found however they are spelled.
    """
    head, mark, query = path.partition("?")
    if not mark:
        return path
    pairs = query.split("&")
    kept = [pair for pair in pairs if not _is_named(pair, names, any_case=any_case)]
    return path if len(kept) == len(pairs) else head + ("?" + "&".join(kept) if kept else "")


def _is_named(pair: str, names: frozenset[str], *, any_case: bool) -> bool:
    decoded = parse_qsl(pair, keep_blank_values=True)
    return bool(decoded) and (decoded[0][0].lower() if any_case else decoded[0][0]) in names


def _without_overrides(path: str) -> str:
    head, mark, query = path.partition("?")
    kept = [
        pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]).lower() not in OVERRIDE_PARAMETERS
    ]
    return head + (mark + "&".join(kept) if kept else "")


def with_parameter(path: str, name: str, value: str) -> str:
    """Add a query parameter at the end."""
    head, _, query = path.partition("?")
    return f"{head}?{query}{'&' if query else ''}{name}={quote(value, safe='[]')}"
