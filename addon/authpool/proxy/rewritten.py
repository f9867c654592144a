"""A credential that is written otherwise as a whole: in hex, every character escaped, as UTF-16, in one case. Pure.

It is looked for by a part of its middle third, written so. What is looked for in every answer is made once and is
short; escapes are looked for only where the character is there that they begin with.
"""

from binascii import hexlify
from collections.abc import Callable, Iterator
from typing import NamedTuple

PART_CHARACTERS = 12
"""So much of it is looked for: chance repeats no more than that."""


class Writing(NamedTuple):
    """How a part of the credential stands in data, and how what comes before and after it would."""

    needle: bytes
    before: bytes
    after: bytes


class _Way(NamedTuple):
    """How a part is written, and what stands on either side of it."""

    needle: Callable[[bytes], bytes]
    before: Callable[[bytes], bytes]
    after: Callable[[bytes], bytes]


def _same(text: bytes) -> bytes:
    return text


def _upper_hex(text: bytes) -> bytes:
    return hexlify(text).upper()


def _between_nulls(text: bytes) -> bytes:
    """UTF-16 of either order, from the first character to the last."""
    return b"\0".join([text[at : at + 1] for at in range(len(text))])


def _with_nulls_behind(text: bytes) -> bytes:
    return _between_nulls(text) + b"\0" if text else b""


def _with_nulls_before(text: bytes) -> bytes:
    return b"\0" + _between_nulls(text) if text else b""


_AS_IT_IS = _Way(_same, _same, _same)
_ALWAYS = (
    _Way(hexlify, hexlify, hexlify),
    _Way(_upper_hex, _upper_hex, _upper_hex),
    _Way(bytes.lower, bytes.lower, bytes.lower),
    _Way(bytes.upper, bytes.upper, bytes.upper),
    _Way(_between_nulls, _with_nulls_behind, _with_nulls_before),
)
_ESCAPES = (
    (b"%", (b"%%%02X", b"%%%02x", b"%%25%02X", b"%%25%02x")),
    (b"\\u00", (b"\\u%04x", b"\\u%04X")),
    (b"\\x", (b"\\x%02x", b"\\x%02X")),
    (b"&#", (b"&#%d;", b"&#x%x;", b"&#x%X;")),
)
"""What they begin with, and how each byte is written."""


class Rewritten:
    """One credential, as it may be written; `piece` stands at `piece_at` in it."""

    __slots__ = ("_at", "_credential", "_needles", "_part")

    def __init__(self, credential: bytes, piece_at: int, piece: bytes) -> None:
        self._credential = credential
        self._at, self._part = piece_at, piece[:PART_CHARACTERS]
        self._needles = [way.needle(self._part) for way in _ALWAYS]

    def is_in(self, data: bytes) -> bool:
        """Whether data may repeat it."""
        return next(self.found_in(data), None) is not None

    def found_in(self, data: bytes) -> Iterator[Writing]:
        """The ways in which data repeat a part of it."""
        for way, needle in zip(_ALWAYS, self._needles, strict=True):
            if needle in data:
                writing = self._writing(way, needle)
                if writing.before + needle + writing.after != self._credential:  # else it is written as it is
                    yield writing
        for sign, escapes in _ESCAPES:
            if sign in data:
                yield from self._escaped_in(data, escapes)

    def _escaped_in(self, data: bytes, escapes: tuple[bytes, ...]) -> Iterator[Writing]:
        """Every character by its number; the rest may be written in any way that `escapes` knows."""
        for escape in escapes:
            if escape % self._part[0] in data:  # as a rule not even that
                needle = b"".join([escape % byte for byte in self._part])
                if needle in data:
                    yield self._writing(_AS_IT_IS, needle)

    def _writing(self, way: _Way, needle: bytes) -> Writing:
        before, after = self._credential[: self._at], self._credential[self._at + len(self._part) :]
        return Writing(needle, way.before(before), way.after(after))
