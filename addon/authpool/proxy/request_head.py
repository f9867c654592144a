"""What the head of a request must be like to get a credential, and which of its fields would undo what was decided.

A client, another addon, or a hand in mitmweb may write anything into a request. What would make the upstream read
another request than the one a pool was chosen for is refused, or taken off. Pure.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers

from authpool.config.pool_config import ECHOING_METHODS

type Fields = tuple[tuple[bytes, bytes], ...]
type Head = tuple[bytes, bytes, bytes, Fields]
"""Method, target, authority and header fields, as they are to be sent."""

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")  # RFC 9110 §5.6.2
_TARGET = re.compile(rb"/[^\x00-\x20\x7f]*")  # origin-form; a blank or a line end would end it before its end
VERSION = re.compile(rb"HTTP/\d(?:\.\d)?")  # it goes out in the request line of HTTP/1 as it stands
_LINE_ENDS = re.compile(rb"[\x00\r\n]")

_ECHOING = frozenset(method.encode() for method in ECHOING_METHODS)
LEFT_OUT = frozenset({b"proxy-connection", b"http2-settings"})
"""Fields about the client's own connection that some servers act on all the same."""
_CONNECTION_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})
"""What a `Connection` may name: whatever else it names, the credential among it, is dropped by who reads it next."""

_OVERRIDE = re.compile(
    rb"(?:x-)?(?:http-)?(?:method|verb)(?:-override)?|(?:x-)?http-(?:method|verb)|(?:x-)?http-(?:url|uri|path)-override"
    rb"|(?:x-)?(?:original|rewrite|rewritten|override|forwarded|replaced|request|envoy-original|proxy|accel)-"
    rb"(?:url|uri|path|prefix|method|verb|target)|(?:x-)?(?:url|uri|path)-override|x-(?:url|uri|path)|destination"
    rb"|x-(?:matched-path|waws-unencoded-url)"
)
"""By these some servers take another method or path than the request line's; `Destination` is WebDAV's second path."""
OVERRIDE_PARAMETERS = frozenset(
    {"_method", "__method", "$httpmethod", "$httpheaders", "x-http-method-override", "x-http-method", "_httpmethod"}
)
"""Query parameters that do the same, in small letters; `$httpMethod` and `$httpHeaders` are Google's."""


def head_of(request: http.Request) -> Head:
    """What of a request the decision about it was made by."""
    data = request.data
    return data.method, data.path, data.authority, data.headers.fields


def is_well_formed(head: Head) -> bool:
    """Whether a head is written as one request and no more, whatever version of HTTP it goes out by."""
    method, target, authority, fields = head
    return (
        _METHOD.fullmatch(method) is not None
        and (_TARGET.fullmatch(target) is not None or (target == b"*" and method == b"OPTIONS"))
        and _LINE_ENDS.search(b"".join([authority, *[value for _, value in fields]])) is None
        and _NAMES.fullmatch(b"".join([name for name, _ in fields])) is not None
    )


def is_framed(request: http.Request) -> bool:
    """Whether the fields of a request that was changed still tell where its body ends."""
    try:
        validate_headers(request)
    except ValueError:
        return False
    length, content = request.headers.get("content-length"), request.raw_content
    return bool(request.stream) or length is None or int(length) == len(content or b"")


def hosts_named(head: Head) -> list[bytes]:
    """Every host that a head names: its Host fields, and its authority."""
    named = [value for name, value in head[3] if len(name) == 4 and name.lower() == b"host"]
    return [*named, head[2]] if head[2] else named


def spelled(name: bytes) -> bytes:
    """A field's name as it compares: CGI and its descendants make no difference between ``_`` and ``-``."""
    return name.lower().replace(b"_", b"-")


def fields_left(fields: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes], *, narrowed: bool) -> Fields:
    """The fields that may go on: without those `dropped`, and (`narrowed`) those that change method or path.

    To a method that the upstream would answer with the credential none may change it.
    """
    names = [name.lower() for name, _ in fields]
    spelt = b"".join(names)
    if b"_" in spelt:
        names = [name.replace(b"_", b"-") for name in names]
    kept = [field for field, name in zip(fields, names, strict=True) if name not in dropped]
    if b"connection" in names:
        kept = _with_known_options(kept)
    if narrowed:
        kept = [field for field in kept if not overrides(spelled(field[0]))]
    elif b"method" in spelt:
        kept = [field for field in kept if field[1].strip().upper() not in _ECHOING or not overrides(spelled(field[0]))]
    return tuple(kept)


def _with_known_options(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields with a `Connection` that names nothing it may not name, or without one."""
    kept = []
    for field in fields:
        if len(field[0]) != len(b"connection") or field[0].lower() != b"connection":
            kept.append(field)
        elif options := _connection_options(field[1]):
            kept.append((field[0], options))
    return kept


def _connection_options(value: bytes) -> bytes:
    lower = value.lower()
    if lower in _CONNECTION_OPTIONS:  # nearly always
        return value
    options = [option.strip() for option in value.split(b",")]
    return b", ".join([option for option in options if option.lower() in _CONNECTION_OPTIONS])


@lru_cache(maxsize=4096)  # asked of every field, and clients choose the names
def overrides(name: bytes) -> bool:
    """Whether some servers take a field of this name (`spelled`) for a method or a path."""
    return _OVERRIDE.fullmatch(name) is not None
