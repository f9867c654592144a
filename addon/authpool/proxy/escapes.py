"""Whether data repeat a text, each character plain, percent-encoded (RFC 3986) or escaped as in JSON, JavaScript, HTML.

Each comparison takes a step, and there are only so many of them: what an upstream answers holds nobody up. Pure.
"""

import re
from functools import lru_cache

LONGEST_FORM = 10
_BEGINNINGS = frozenset(b"%\\&")
_BEGINNINGS_ONE_BY_ONE = (b"%", b"\\", b"&")
_BEGIN = re.compile(rb"[%\\&]")
_BEGUN = re.compile(rb"%(?:2(?:5[0-9A-Fa-f]?)?|[0-9A-Fa-f])?|\\(?:u[0-9A-Fa-f]{0,3}|x[0-9A-Fa-f]?)?|&[#\w]{0,8}")
_AT_ONCE = 256
_NAMED = {
    b"&": b"amp",
    b"<": b"lt",
    b">": b"gt",
    b'"': b"quot",
    b"'": b"apos",
    b"/": b"sol",
    b"+": b"plus",
    b"=": b"equals",
}


class Steps:
    """How many are `left`, for as many comparisons as share them."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Comparison:
    """Compares texts with data, for as long as there are steps left."""

    def __init__(self, data: bytes, steps: Steps) -> None:
        self._data = data
        self._steps = steps

    def forward(self, text: bytes, at: int) -> tuple[int, int]:
        """How many characters of `text` stand from `at` on, and where they end."""
        same = 0
        while same < len(text) and at < len(self._data) and self._steps.left > 0:
            self._steps.left -= 1
            if self._data[at] in _BEGINNINGS:
                match = forms(text[same]).match(self._data, at)
                run, length = (0, 0) if match is None else (1, match.end() - at)
            else:
                run = length = self._plain_from(text[same : same + _AT_ONCE], at)
            if not run:
                break
            same, at = same + run, at + length
        return same, at

    def backward(self, text: bytes, at: int) -> tuple[int, int]:
        """How many characters of the end of `text` stand before `at`, and where they begin."""
        left = len(text)
        while left and at and self._steps.left > 0:
            self._steps.left -= 1
            if _BEGIN.search(self._data, max(0, at - LONGEST_FORM), at):
                length = self._form_before(text[left - 1], at)
                run = int(length > 0)
            else:
                run = length = self._plain_before(text[max(0, left - _AT_ONCE) : left], at)
            if not run:
                break
            left, at = left - run, at - length
        return len(text) - left, at

    def is_begun(self, text: bytes, at: int) -> bool:
        """Whether the data end, from `at` on, as `text` begins."""
        same, end = self.forward(text, at)
        if same == len(text) or self._steps.left <= 0:
            return False
        return end == len(self._data) or _BEGUN.fullmatch(self._data, end) is not None

    def _plain_from(self, text: bytes, at: int) -> int:
        """How many characters stand there as they are, before any of the data that may begin an escape."""
        begin = _BEGIN.search(self._data, at, at + len(text))
        plain = self._data[at : at + len(text) if begin is None else begin.start()]
        differing = int.from_bytes(text[: len(plain)]) ^ int.from_bytes(plain)
        return len(plain) - (differing.bit_length() + 7) // 8

    def _plain_before(self, text: bytes, at: int) -> int:
        """Likewise, behind any of the data that may belong to an escape."""
        first = max(0, at - len(text))
        seen = max(0, first - LONGEST_FORM)
        begin = max(self._data.rfind(character, seen, at) for character in _BEGINNINGS_ONE_BY_ONE)
        plain = self._data[first if begin < 0 else max(first, begin + LONGEST_FORM) : at]
        differing = int.from_bytes(text[len(text) - len(plain) :], "little") ^ int.from_bytes(plain, "little")
        return len(plain) - (differing.bit_length() + 7) // 8

    def _form_before(self, byte: int, end: int) -> int:
        """How many bytes before `end` stand for `byte`; none: 0."""
        for begin in _BEGIN.finditer(self._data, max(0, end - LONGEST_FORM), end):
            if forms(byte).fullmatch(self._data, begin.start(), end):
                return end - begin.start()
        return int(self._data[end - 1] == byte)


def beginnings(text: bytes) -> re.Pattern[bytes]:
    """Where `text` may begin in data: with three characters of it, or fewer right before the end of the data."""
    first = b"(?:%b)" % forms(text[0]).pattern
    more = b"".join(b"(?:%b)" % forms(byte).pattern for byte in text[1:3])
    return re.compile(rb"%b%b|(?:%b|[%%\\&])(?=.{0,%d}\Z)" % (first, more, first, 3 * LONGEST_FORM), re.DOTALL)


@lru_cache(maxsize=256)
def forms(byte: int) -> re.Pattern[bytes]:
    """Every way that one byte of a text is written in."""
    character = bytes((byte,))
    digits = b"%02x" % byte
    named = b"|&%b;" % _NAMED[character] if character in _NAMED else b""
    slashed = rb"|\\" + re.escape(character) if character in b"/\\\"'" else b""
    forms = rb"(?i:%%(?:25)?%b|\\u00%b|\\x%b|&#0{0,4}%d;|&#x0{0,4}%b;%b)" % (
        digits,
        digits,
        digits,
        byte,
        digits.lstrip(b"0"),
        named,
    )
    return re.compile(forms + slashed + b"|" + re.escape(character))
