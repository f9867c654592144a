"""Taking the client's credential off a request, and putting an account's on a copy of it. Pure."""

from typing import Final
from urllib.parse import parse_qsl, quote

from mitmproxy import http

from authpool.config.pool_config import HeaderInjection, PoolConfig, QueryInjection

PLACEHOLDER: Final = "[authpool]"
CREDENTIAL_HEADERS: Final = frozenset({b"authorization", b"proxy-authorization", b"x-api-key", b"x-goog-api-key"})
"""What clients send credentials or gateway keys in; none of them travels upstream."""
CREDENTIAL_PARAMETER: Final = "access_token"  # RFC 6750 §2.3


def strip_credentials(request: http.Request, pool: PoolConfig) -> None:
    """Take off every credential the client sent, and show in the flow where ours will be."""
    fields = [field for field in request.headers.fields if field[0].lower() not in CREDENTIAL_HEADERS]
    if isinstance(pool.inject, QueryInjection):
        path = _without_parameters(request.path, {CREDENTIAL_PARAMETER, pool.inject.parameter})
        request.path = _with_parameter(path, pool.inject.parameter, PLACEHOLDER)
    else:
        if "?" in request.path:
            request.path = _without_parameters(request.path, {CREDENTIAL_PARAMETER})
        name = _header_name(request, pool.inject)
        fields = [field for field in fields if field[0].lower() != name.lower()]
        fields.append((name, pool.inject.render(PLACEHOLDER).encode()))
    request.headers.fields = tuple(fields)


def with_credential(request: http.Request, pool: PoolConfig, access_token: str) -> http.Request:
    """Copy a request, with the credential in place of its placeholder. The copy is never shown to anyone.

    Raises ValueError for a token that would be more than a value, such as one with a line end in it.
    """
    if not access_token.isprintable():
        raise ValueError("the access token holds a character that no header may have")
    wire = _shallow_copy(request)
    wire.data = _shallow_copy(request.data)
    if isinstance(pool.inject, QueryInjection):
        path = _without_parameters(request.path, {pool.inject.parameter})
        path = _with_parameter(path, pool.inject.parameter, pool.inject.render(access_token))
        wire.data.path = path.encode("utf-8", "surrogateescape")
        return wire
    name = _header_name(request, pool.inject)
    fields = [field for field in request.headers.fields if field[0].lower() != name.lower()]
    fields.append((name, pool.inject.render(access_token).encode()))
    wire.data.headers = http.Headers()
    wire.data.headers.fields = tuple(fields)
    return wire


def _shallow_copy[T](original: T) -> T:
    """`copy.copy`, for the plain objects that mitmproxy's messages are, at a fraction of its cost."""
    duplicate = object.__new__(type(original))
    duplicate.__dict__.update(original.__dict__)
    return duplicate


def _header_name(request: http.Request, inject: HeaderInjection) -> bytes:
    # Upper case is an error in HTTP/2 and HTTP/3 (RFC 9113 §8.2.1).
    return (inject.header.lower() if request.is_http2 or request.is_http3 else inject.header).encode()


def _without_parameters(path: str, names: set[str]) -> str:
    """Remove query parameters, and leave every other byte of the path as the client wrote it."""
    head, mark, query = path.partition("?")
    if not mark:
        return path
    pairs = query.split("&")
    kept = [pair for pair in pairs if not _is_named(pair, names)]
    return path if len(kept) == len(pairs) else head + ("?" + "&".join(kept) if kept else "")


def _is_named(pair: str, names: set[str]) -> bool:
    decoded = parse_qsl(pair, keep_blank_values=True)
    return bool(decoded) and decoded[0][0] in names


def _with_parameter(path: str, name: str, value: str) -> str:
    head, _, query = path.partition("?")
    return f"{head}?{query}{'&' if query else ''}{name}={quote(value, safe='[]')}"
