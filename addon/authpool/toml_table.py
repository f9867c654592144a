"""Tables of the TOML documents that the program itself writes: taken apart key by key, and put together. Pure."""

from collections.abc import Mapping
from typing import Any

LARGEST = 2**63
"""Whole numbers of TOML 1.0 are below it; a larger one is more than a float holds."""

_MISSING: Any = object()


def taken(rest: dict[str, Any], key: str, kind: type, default: Any = _MISSING) -> Any:
    """Take a key out of what is left of a table. Raises ValueError, fit to be shown: no value is in it."""
    value = rest.pop(key, default)
    if value is _MISSING:
        raise ValueError(f"`{key}` is missing")
    if value is not default and type(value) is not kind:
        raise ValueError(f"`{key}` is no {kind.__name__}")
    if type(value) is int and abs(value) >= LARGEST:
        raise ValueError(f"`{key}` is out of range")
    return value


def put_together(known: Mapping[str, Any], extra: Mapping[str, Any], **tables: Any) -> dict[str, Any]:
    """What is known and what survives unknown (`extra`), tables last, as TOML wants them; None is left out."""
    scalars = {key: value for key, value in extra.items() if not isinstance(value, dict)}
    others = {key: value for key, value in extra.items() if isinstance(value, dict)}
    return without_none({**known, **scalars, **tables, **others})


def without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """What TOML can say of it."""
    return {key: value for key, value in table.items() if value is not None}
