"""What mitmproxy works out anew many times for each request, at a fraction of the cost.

A request asks some twenty-five times for a header, sixteen times for an option and as often for a hook's arguments;
each of its hooks is checked for being one, gets a task with a name, and stops the connection's watchdog meanwhile.
The answers are mitmproxy's own; whatever is not of the usual kind (a class derived from its headers, an option that
is a list) is answered by mitmproxy itself. Most headers that are asked for are not there: so their names are kept with
the headers, for as long as these have the same fields.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mitmproxy import hooks, optmanager
from mitmproxy.http import Headers
from mitmproxy.net.http import url
from mitmproxy.proxy.server import TimeoutWatchdog
from mitmproxy.utils import asyncio_utils

IN_A_TEST = "PYTEST_CURRENT_TEST"
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
_stock_new_hook: Callable[..., Any] = hooks.Hook.__new__
_stock_set_task_debug_info = asyncio_utils.set_task_debug_info


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


@lru_cache(maxsize=128)
def _is_made_plainly(kind: Any) -> bool:
    """Whether hooks of this kind are allowed, and made as every object is."""
    makers = [base.__dict__["__new__"] for base in kind.__mro__ if "__new__" in base.__dict__]
    return dataclasses.is_dataclass(kind) and len(makers) == 2  # those of hooks and of objects


def _new_hook(cls: Any, *args: Any, **kwargs: Any) -> Any:
    if cls is hooks.Hook or not _is_made_plainly(cls):
        return _stock_new_hook(cls, *args, **kwargs)
    return object.__new__(cls)


def _set_task_debug_info(task: Any, *, name: str, client: Any = None) -> None:
    task.created = time.time()
    task.set_name(name)
    if client:
        task.client = client


class _Disarmed:
    """While a watchdog of a connection is told to wait: as `TimeoutWatchdog.disarm`, without a generator."""

    __slots__ = ("_watchdog",)

    def __init__(self, watchdog: Any) -> None:
        self._watchdog = watchdog

    def __enter__(self) -> None:
        watchdog = self._watchdog
        watchdog.can_timeout.clear()
        watchdog.blocker += 1

    def __exit__(self, *_: object) -> None:
        watchdog = self._watchdog
        watchdog.blocker -= 1
        if watchdog.blocker == 0:
            watchdog.register_activity()
            watchdog.can_timeout.set()


def _disarm(self: Any) -> _Disarmed:
    return _Disarmed(self)


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
    (hooks.Hook, "__new__", staticmethod(_new_hook)),
    (TimeoutWatchdog, "disarm", _disarm),
)
_OWN = {(owner, name): vars(owner).get(name) for owner, name, _ in _SHORTCUTS}
"""What mitmproxy has in these places; None where it is inherited."""


def take() -> None:
    """Answer in our way."""
    for owner, name, ours in _SHORTCUTS:
        setattr(owner, name, ours)
    if IN_A_TEST not in os.environ:  # where it is, mitmproxy's tasks say in which test they were made
        asyncio_utils.set_task_debug_info = _set_task_debug_info


def take_none() -> None:
    """Let mitmproxy answer in its own way."""
    for owner, name, _ in _SHORTCUTS:
        own = _OWN[owner, name]
        if own is not None:
            setattr(owner, name, own)
        elif name in vars(owner):
            delattr(owner, name)
    asyncio_utils.set_task_debug_info = _stock_set_task_debug_info


def missing() -> list[str]:
    """What of all this mitmproxy has no more."""
    known = {f"_Option.{name}": name in optmanager._Option.__slots__ for name in ("value", "_default")}  # noqa: SLF001
    known["optmanager.unset"] = hasattr(optmanager, "unset")
    known["Headers.fields"] = "fields" in Headers.__annotations__
    watched = TimeoutWatchdog.__annotations__
    known |= {f"TimeoutWatchdog.{name}": name in watched for name in ("can_timeout", "blocker")}
    known["asyncio_utils.create_task"] = "set_task_debug_info" in asyncio_utils.create_task.__code__.co_names
    return [name for name, there in known.items() if not there]
