"""What mitmproxy works out anew many times for each request, at a fraction of the cost.

A request asks some twenty-five times for a header, sixteen times for an option and as often for a hook's arguments.
The answers are mitmproxy's own; whatever is not of the usual kind (a class derived from its headers, an option that
is a list) is answered by mitmproxy itself. Most headers that are asked for are not there: so their names are kept with
the headers, for as long as these have the same fields.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mitmproxy import hooks, optmanager
from mitmproxy.http import Headers
from mitmproxy.net.http import url

MAX_AUTHORITY = 300
"""Characters. No host and port are longer (RFC 1035 §2.3.4), and what is remembered was chosen by clients."""
_NAMES = "_authpool_names"
"""Where the names of a `Headers` are kept: beside its fields, of which they are."""
_UNCHANGEABLE = frozenset({str, int, bool, float, type(None)})
"""Nobody can change such a value, so it need not be copied for everyone who asks for it."""

_stock_get = Headers.get
_stock_getitem = Headers.__getitem__
_stock_contains = Headers.__contains__
_stock_current = optmanager._Option.current  # noqa: SLF001 - the very thing this module is for
_stock_parse_authority = url.parse_authority


@lru_cache(maxsize=512)
def _spelled(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape").lower()


def _names_of(headers: Headers) -> frozenset[bytes]:
    """The names of all fields, in small letters."""
    fields = headers.fields
    names = frozenset([field.lower() for field, _ in fields])
    if type(fields) is tuple:  # else they may change and still be the same
        headers.__dict__[_NAMES] = fields, names
    return names


def _value(headers: Headers, wanted: bytes) -> str:
    """What `Headers` makes of the fields of that name, in small letters."""
    found = [value for field, value in headers.fields if field.lower() == wanted]
    return ", ".join([value.decode("utf-8", "surrogateescape") for value in found])


def _get(self: Headers, key: Any, default: Any = None) -> Any:
    if type(self) is not Headers or type(key) is not str:
        return _stock_get(self, key, default)
    wanted, kept = _spelled(key), self.__dict__.get(_NAMES)
    names = kept[1] if kept is not None and kept[0] is self.fields else _names_of(self)
    return _value(self, wanted) if wanted in names else default


def _getitem(self: Headers, key: Any) -> Any:
    value = _get(self, key) if type(self) is Headers and type(key) is str else None
    return _stock_getitem(self, key) if value is None else value


def _contains(self: Headers, key: Any) -> bool:
    if type(self) is not Headers or type(key) is not str:
        return _stock_contains(self, key)
    kept = self.__dict__.get(_NAMES)
    return _spelled(key) in (kept[1] if kept is not None and kept[0] is self.fields else _names_of(self))


def _current(self: Any) -> Any:
    value = self._default if self.value is optmanager.unset else self.value
    return value if type(value) in _UNCHANGEABLE else _stock_current(self)


@lru_cache(maxsize=128)  # as many as there are kinds of hooks, those of plugins and reloaded scripts too
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _arguments(self: hooks.Hook) -> list[Any]:
    kind: Any = type(self)
    return [getattr(self, name) for name in _names(kind)]


_remembered_authority = lru_cache(maxsize=1024)(_stock_parse_authority)


def _parse_authority(authority: Any, check: bool) -> tuple[str, int | None]:  # noqa: FBT001 - mitmproxy's signature
    parse: Callable[..., tuple[str, int | None]] = _stock_parse_authority
    return (_remembered_authority if len(authority) <= MAX_AUTHORITY else parse)(authority, check)


_SHORTCUTS: tuple[tuple[Any, str, Any], ...] = (
    (Headers, "get", _get),
    (Headers, "__getitem__", _getitem),
    (Headers, "__contains__", _contains),
    (optmanager._Option, "current", _current),  # noqa: SLF001
    (hooks.Hook, "args", _arguments),
    (url, "parse_authority", _parse_authority),
)
_OWN = {(owner, name): vars(owner).get(name) for owner, name, _ in _SHORTCUTS}
"""What mitmproxy has in these places; None where it is inherited."""


def take() -> None:
    """Answer in our way."""
    for owner, name, ours in _SHORTCUTS:
        setattr(owner, name, ours)


def take_none() -> None:
    """Let mitmproxy answer in its own way."""
    for owner, name, _ in _SHORTCUTS:
        own = _OWN[owner, name]
        if own is not None:
            setattr(owner, name, own)
        elif name in vars(owner):
            delattr(owner, name)


def missing() -> list[str]:
    """What of all this mitmproxy has no more."""
    known = {f"_Option.{name}": name in optmanager._Option.__slots__ for name in ("value", "_default")}  # noqa: SLF001
    known["optmanager.unset"] = hasattr(optmanager, "unset")
    known["Headers.fields"] = "fields" in Headers.__annotations__
    return [name for name, there in known.items() if not there]
