"""Where a request carries a gateway key, and the request without it.

Every key is taken off before anybody sees the request, wherever it stands: also one in a place where none is accepted,
a mistyped one, and one of a gateway that asks for none. What is no gateway key stays: it may be for the upstream.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from authpool.clients.key import PATTERN, PREFIX

PLACES = (b"proxy-authorization", b"authorization", b"x-api-key", b"x-goog-api-key")
"""The header fields that a key may be in, the one that counts first in front; the query's `key` comes last."""
PARAMETER = b"key"

_PREFIX = PREFIX.encode()
_WHOLE = re.compile(PATTERN.encode())
_PLACES = frozenset(PLACES)

type Fields = tuple[tuple[bytes, bytes], ...]


class Presented(NamedTuple):
    """What a request carried: the values that have a key in them, as they were sent.

    `other`: a credential that is no gateway key, in a place where one may be.
    """

    values: tuple[bytes, ...] = ()
    other: bool = False

    def __repr__(self) -> str:
        return f"Presented({len(self.values)} values, other={self.other})"


NOTHING = Presented()
OTHER = Presented(other=True)


def take_from_fields(fields: Fields) -> tuple[Fields, Presented]:
    """Take the keys off header fields; the very fields are answered where there is none."""
    found: dict[bytes, bytes] = {}
    dropped: list[int] = []
    other = False
    for number, (field, value) in enumerate(fields):  # asked of every request
        name = field.lower()
        if name in _PLACES:
            if _has_key(value):
                dropped.append(number)
                if name not in found and _is_accepted(name, value):
                    found[name] = value
            else:
                other = True
        elif (_PREFIX in value and _WHOLE.search(value)) or _PREFIX in name:
            dropped.append(number)
    if not dropped:
        return fields, OTHER if other else NOTHING
    left = list(fields)
    for number in reversed(dropped):
        del left[number]
    values = tuple(found.values()) if len(found) < 2 else tuple(found[name] for name in PLACES if name in found)
    return tuple(left), Presented(values, other)


def take_from_target(target: bytes) -> tuple[bytes, bytes | None]:
    """Take the keys off the query of a request target; every other byte stays as the client wrote it.

    One in the path leaves a gap, and does not count.
    """
    if _PREFIX in target or b"%" in target:
        path, mark, query = target.partition(b"?")
        left = _path_without_key(path)
        target = target if left == path else left + mark + query
    if b"?" not in target or not (b"key=" in target or _PREFIX in target or b"%" in target):
        return target, None
    path, _, query = target.partition(b"?")
    key: bytes | None = None
    kept: list[bytes] = []
    for pair in query.split(b"&"):
        name, _, value = (unquote_to_bytes(part.replace(b"+", b" ")) for part in pair.partition(b"="))
        if name == PARAMETER and value.startswith(_PREFIX):
            key = key or value
        elif not any(map(_WHOLE.search, (name, value, pair))):  # decoded, and as it stands
            kept.append(pair)
    if len(kept) == query.count(b"&") + 1:
        return target, None
    return path + (b"?" + b"&".join(kept) if kept else b""), key


def _path_without_key(path: bytes) -> bytes:
    """Without the key; where it is percent-encoded, without the segment that it is in."""
    if b"%" in path:
        segments = path.split(b"/")
        path = b"/".join(b"" if _WHOLE.search(unquote_to_bytes(one)) else one for one in segments)
    return _WHOLE.sub(b"", path)


def is_a_key(text: bytes) -> bool:
    """Whether there is a key in what should be another thing."""
    return _PREFIX in text


def keys_in(value: bytes) -> Sequence[str]:
    """The keys that the value of one of `PLACES`, or of the parameter, may mean."""
    scheme, rest = _with_scheme(value)
    texts: Iterable[bytes]
    if scheme == b"basic":
        texts = _basic(rest)
    elif scheme == b"bearer":
        texts = (rest.strip(),)
    else:
        texts = (value.strip(),)
    return [text.decode("latin-1") for text in texts if text.startswith(_PREFIX)]


def _has_key(value: bytes) -> bool:
    if _PREFIX in value:
        return True
    scheme, rest = _with_scheme(value)
    return scheme == b"basic" and any(_PREFIX in text for text in _basic(rest))


def _is_accepted(name: bytes, value: bytes) -> bool:
    """Whether a place may hold a key in that form."""
    scheme, _ = _with_scheme(value)
    match name:
        case b"proxy-authorization":
            return scheme in {b"basic", b"bearer"}
        case b"authorization":
            return scheme == b"bearer"
        case _:
            return scheme not in {b"basic", b"bearer"}


def _with_scheme(value: bytes) -> tuple[bytes, bytes]:
    """The scheme in lower case and what follows it, whatever white space is between them."""
    scheme, *rest = value.split(None, 1) or (b"",)
    return (scheme.lower(), rest[0]) if rest else (b"", scheme)


def _basic(credentials: bytes) -> Sequence[bytes]:
    """User and password; nothing where it is no Base64 (RFC 7617). Some clients leave its padding out."""
    try:
        user, _, password = b64decode(credentials.strip() + b"==").partition(b":")
    except (Base64Error, ValueError):
        return ()
    return user, password
