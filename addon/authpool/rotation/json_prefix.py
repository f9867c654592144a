"""A field of a JSON document of which only the beginning is there. Pure."""

import json
import re
from collections.abc import Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]  # it has no other name
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def field_of_prefix(data: bytes, path: Sequence[str]) -> Any:
    """The value at `path`, where all of it stands before the end; None where it does not, or there is none.

    Of a name that stands there twice the first counts, for nobody can tell what comes later.
    """
    text = data.decode("utf-8", "ignore")
    at = _space(text, 0)
    try:
        for step in path:
            found = _member(text, at, step) if text[at : at + 1] == "{" else _item(text, at, step)
            if found is None:
                return None
            at = found
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):  # it is cut off before that
        return None
    return value if end < len(text) else None  # a number may go on


def _member(text: str, at: int, name: str) -> int | None:
    """Where the value of an object's member begins."""
    at = _space(text, at + 1)
    while text[at : at + 1] == '"':
        key, at = scanstring(text, at + 1, True)
        at = _space(text, at)
        if text[at : at + 1] != ":":
            return None
        at = _space(text, at + 1)
        if key == name:
            return at
        at = _next(text, at)
    return None


def _item(text: str, at: int, number: str) -> int | None:
    """Where an array's item begins."""
    if text[at : at + 1] != "[" or not number.isdecimal() or len(number) > 6:
        return None
    at = _space(text, at + 1)
    for _ in range(int(number)):
        at = _next(text, at)
    return at


def _next(text: str, at: int) -> int:
    """Behind a value and the comma after it. Raises ValueError where there is none."""
    _, at = _DECODER.raw_decode(text, at)
    at = _space(text, at)
    if text[at : at + 1] != ",":
        raise ValueError("the last one")
    return _space(text, at + 1)


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
