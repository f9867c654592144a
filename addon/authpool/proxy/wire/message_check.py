"""mitmproxy's check of each message's types, without its cost for messages that are as they should be.

mitmproxy looks at the type of every field of every request and response, in a way that takes a twelfth of all its
time (`python -O` leaves it out). Here a message whose fields have just the types they are declared with passes at
once, and any other is for mitmproxy's own check.
"""

import types
import typing
from typing import Any, Union, get_args, get_origin

from mitmproxy.http import MessageData, RequestData, ResponseData

_stock_check = getattr(MessageData, "__post_init__", None)


def _declared(kind: type[MessageData]) -> tuple[tuple[str, frozenset[type]], ...]:
    """The fields of a kind of message, each with the types its values may have."""
    hints = typing.get_type_hints(kind)
    unions = (Union, types.UnionType)
    found = {name: get_args(hint) if get_origin(hint) in unions else (hint,) for name, hint in hints.items()}
    return tuple((name, frozenset(allowed)) for name, allowed in found.items())


_FIELDS = {kind: _declared(kind) for kind in (RequestData, ResponseData)}


_passed: set[tuple[type, ...]] = set()
"""The types of messages that were found to be as declared: theirs, and those of their fields, in order."""


def _quick_check(self: Any) -> None:
    kinds = (type(self), *map(type, self.__dict__.values()))
    if kinds not in _passed:
        _check(self, kinds)


def _check(self: Any, kinds: tuple[type, ...]) -> None:
    values, declared = self.__dict__, _FIELDS.get(type(self))
    if declared is None or list(values) != [name for name, _ in declared]:
        _check_slowly(self)
    elif all(type(values[name]) in allowed for name, allowed in declared):
        _passed.add(kinds)
    else:
        _check_slowly(self)


def _check_slowly(self: Any) -> None:
    assert _stock_check is not None  # noqa: S101 - for the type checker
    _stock_check(self)


def check_quickly() -> None:
    """Let messages be checked in our way."""
    if _stock_check is not None:
        MessageData.__post_init__ = _quick_check  # type: ignore[method-assign]


def check_as_ever() -> None:
    """Let messages be checked in mitmproxy's own way."""
    if _stock_check is not None:
        MessageData.__post_init__ = _stock_check  # type: ignore[method-assign]
