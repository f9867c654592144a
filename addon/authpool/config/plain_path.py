r"""Whether all servers take a path for the same path: what narrows a pool must not be read in two ways.

A server, or one behind it, may decode a path more than once, undo compatibility characters (Unicode's NFKC), drop
parameters (``/..;a=b/``), blanks, control and invisible characters, take ``\`` for a slash, or cut at a NUL. So a path
is read as the most eager of them would read it, until nothing more can be undone: if it has dot segments or other
slashes then, or a character of those kinds, it is not plain.
"""

import re
import unicodedata
from urllib.parse import unquote

MAX_READINGS = 8
"""A path that is still encoded after being decoded so often is not plain."""

_LITERAL = re.compile(r"[!-~]*")  # RFC 3986 allows fewer: whatever is visible and ASCII
_IIS_ESCAPE = re.compile(r"%[uU][0-9A-Fa-f]{4}")
_CUT = re.compile(r"[;?#]")
_DOTS = re.compile(r"[. +]*\.[. +]*")
_LOOKALIKES = frozenset("\u2044\u2215\u29f8\u2216\u29f5\u20e5\u00a5\u20a9\u3002\uff61")
"""Slashes, backslashes and full stops that only some conversions undo (Windows' best fit, Shift-JIS, KS, IDNA)."""
_UNSTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_plain_path(path: str) -> bool:
    """Whether a path (without its query) has one reading."""
    if not _LITERAL.fullmatch(path) or "#" in path:
        return False
    slashes = path.count("/")
    for _ in range(MAX_READINGS):
        if not _is_plain(path, slashes):
            return False
        try:
            read = unquote(path, errors="strict")  # an overlong %c0%af is a slash to some
        except UnicodeDecodeError:
            return False
        read = read if read.isascii() else unicodedata.normalize("NFKC", read)
        if read == path:
            return True
        path = read
    return False


def _is_plain(reading: str, slashes: int) -> bool:
    if "\\" in reading or reading.count("/") != slashes or _IIS_ESCAPE.search(reading):
        return False
    if not (reading.isascii() and reading.isprintable()) and not all(map(_is_stable, reading)):
        return False
    return not any(_DOTS.fullmatch(_CUT.split(segment, 1)[0]) for segment in reading.split("/"))


def _is_stable(character: str) -> bool:
    category = unicodedata.category(character)
    return category not in _UNSTABLE and (category != "Zs" or character == " ") and character not in _LOOKALIKES
