"""A credential that an upstream repeats in its answer: found however it is written, and covered. Pure.

It is looked for by a piece of its middle third, which any two thirds of it have whole and which no usual encoding
changes; so an answer without it costs one search for a few bytes. Only where the piece is found, the rest is compared
character by character, each plain, percent-encoded (RFC 3986, also twice) or escaped as in JSON, JavaScript and HTML.
Base64 is looked for by itself, and so is what `rewritten` says.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterator
from functools import cached_property
from urllib.parse import unquote_to_bytes

from authpool.proxy.content import changed
from authpool.proxy.escapes import LONGEST_FORM, Comparison, Steps, beginnings
from authpool.proxy.rewritten import Rewritten, Writing

LEAST_CHARACTERS = 6
"""Anything shorter is no secret, and would be found everywhere."""
LOOKED_AT_BYTES = 1024 * 1024
"""So much of a body, decoded, is looked at."""
MOST_STEPS = 20_000
"""So many comparisons are made for one body; in what follows only the credential as it is counts."""
_BYTES_FOR_A_STEP = 16
"""A stream gets more of them as it goes on."""
_WHOLE_PIECE = 4
_SURE_CHARACTERS = 32
_DECODINGS = 3
_SEARCHED_FOR_CODED_BYTES = 64 * 1024
_BASE64_BYTES = 9  # encoded without a remainder; longer than chance would repeat
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_RUN = re.compile(rb"[A-Za-z0-9]+")

type Fields = tuple[tuple[bytes, bytes], ...]


class Echo:
    """One request's credential, as its answer may repeat it. `for_client`: it is covered for the client as well."""

    def __init__(self, credential: str, placeholder: str, *, for_client: bool = False) -> None:
        self._credential = credential.encode()
        self.placeholder = placeholder.encode()
        self.for_client = for_client
        self._piece_at, self._piece = _piece_of(self._credential)

    def fields(self, fields: Fields) -> Fields:
        """Header fields or trailers with the placeholder in the credential's place; the same ones where it is not."""
        if not self._is_in(b"\n".join(map(b"\n".join, fields)), max(map(_length_of_value, fields), default=0)):
            return fields
        return tuple([(name, self._value(value)) for name, value in fields if not self._spans(name)])

    def text(self, text: str) -> str:
        """A message, or a reason phrase, likewise."""
        data = text.encode("utf-8", "surrogatepass")
        if not self._is_in(data, len(data)):
            return text
        return self._value(data).decode("utf-8", "surrogatepass")

    def body(self, content: bytes, coding: str = "") -> bytes:
        """A body with the credential covered; the very same object where it is not in it, or can't be read.

        It is as long as before, unless it is compressed: then it is compressed anew, and cut where looking ended.
        """
        if not coding:
            return self._beginning_covered(content)
        return changed(content, coding, self._beginning_covered, LOOKED_AT_BYTES)

    def stream(self) -> "StreamedEcho":
        """For a body that is sent on as it comes."""
        return StreamedEcho(self)

    def ends_in_part(self, data: bytes, steps: Steps) -> int:
        """Where in `data` an echo begins whose end is still to come; the length of `data` where none does."""
        if len(self._credential) < LEAST_CHARACTERS:
            return len(data)
        comparison = Comparison(data, steps)
        for begin in self._begins.finditer(data, max(0, len(data) - LONGEST_FORM * len(self._credential))):
            if comparison.is_begun(self._credential, begin.start()):
                return begin.start()
            if steps.left <= 0:
                return self._ends_in_plain_part(data)
        return len(data)

    def _ends_in_plain_part(self, data: bytes) -> int:
        first = self._credential[:1]
        at = data.find(first, max(0, len(data) - len(self._credential) + 1))
        while at >= 0 and not self._credential.startswith(data[at:]):
            at = data.find(first, at + 1)
        return at if at >= 0 else len(data)

    def covered(self, data: bytes, steps: Steps) -> bytes:
        """The same number of bytes, with the credential covered."""
        covered = self._covered(data, steps)
        return data if covered is None else covered

    def _beginning_covered(self, content: bytes) -> bytes:
        looked_at = len(content) if self.for_client else LOOKED_AT_BYTES
        covered = self._covered(content[:looked_at] if len(content) > looked_at else content)
        return content if covered is None else covered + content[looked_at:]

    # --- finding it ---------------------------------------------------------------------------------------------

    def _is_in(self, data: bytes, longest: int) -> bool:
        """Whether data, whose longest part has so many bytes, may repeat it."""
        if len(self._credential) < LEAST_CHARACTERS:
            return False
        if self._piece in data or b"%" in data:
            return True
        # Whatever else it is written in is as long at least, so that most heads are too short for it.
        return longest * 3 >= len(self._credential) * 2 and (
            any(coded in data for coded in self._in_base64) or self._rewritten.is_in(data)
        )

    def _value(self, value: bytes) -> bytes:
        spans = self._spans(value)
        for start, end in reversed(spans):
            value = value[:start] + self.placeholder + value[end:]
        read = value
        for _ in range(_DECODINGS if b"%" in value else 0):
            read = unquote_to_bytes(read)
            if self._spans(read):
                return self.placeholder  # written so oddly that nothing of it is worth keeping
        return value

    def _covered(self, data: bytes, steps: Steps | None = None) -> bytes | None:
        """None where there is nothing to cover, as nearly always."""
        spans = self._spans(data, steps)
        if not spans:
            return None
        covered = bytearray(data)
        for start, end in spans:
            covered[start:end] = self._mask(end - start)
        return bytes(covered)

    def _mask(self, length: int) -> bytes:
        return self.placeholder.ljust(length, b"*")[:length] if length >= len(self.placeholder) else b"*" * length

    def _spans(self, data: bytes, steps: Steps | None = None) -> list[tuple[int, int]]:
        if len(self._credential) < LEAST_CHARACTERS:
            return []
        steps = steps or Steps(MOST_STEPS)
        found = list(self._written_out(data, steps, self._plain)) if self._piece in data else []
        beginning = data[:_SEARCHED_FOR_CODED_BYTES] if len(data) > _SEARCHED_FOR_CODED_BYTES else data
        for writing in self._rewritten.found_in(beginning):
            found += self._written_out(data, steps, writing)
        for coded in self._in_base64:
            if coded in beginning:  # then all is covered that it may be a part of
                found += [run.span() for run in _BASE64_RUN.finditer(data) if coded in run[0]]
        return _joined(found)

    def _written_out(self, data: bytes, steps: Steps, writing: Writing) -> Iterator[tuple[int, int]]:
        comparison = Comparison(data, steps)
        needle, before, after = writing
        at, end, compared = data.find(needle), 0, 0
        while at >= 0 and steps.left > 0:
            length, start = comparison.backward(before, at)
            more, end = comparison.forward(after, at + len(needle))
            same = length + len(needle) + more
            if steps.left <= 0:
                break  # perhaps in the middle of it
            if same >= _SURE_CHARACTERS or same * 3 >= len(before + needle + after) * 2:
                yield start, end
            at, compared = data.find(needle, end), end
        if at >= 0:
            whole = re.compile(re.escape(before + needle + after))
            yield from (match.span() for match in whole.finditer(data, compared))

    @property
    def _plain(self) -> Writing:
        piece, at = self._piece, self._piece_at
        return Writing(piece, self._credential[:at], self._credential[at + len(piece) :])

    @cached_property
    def _rewritten(self) -> Rewritten:
        return Rewritten(self._credential, self._piece_at, self._piece)

    @cached_property
    def _begins(self) -> re.Pattern[bytes]:
        return beginnings(self._credential)

    @cached_property
    def _in_base64(self) -> tuple[bytes, ...]:
        """Base64 of a part of its middle third: three ways, by where in the encoded text it begins."""
        third = len(self._credential) // 3
        part = self._credential[third : third + _BASE64_BYTES + 2]
        if len(part) < _BASE64_BYTES + 2:
            return ()
        found = [b2a_base64(part[at : at + _BASE64_BYTES], newline=False) for at in range(3)]
        return tuple(found + [coded.translate(_TO_URL_SAFE) for coded in found if b"+" in coded or b"/" in coded])


class StreamedEcho:
    """Covers the credential in a body that comes in pieces, also where it is cut in two."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._held = b""
        self._steps = Steps(MOST_STEPS)

    def feed(self, data: bytes) -> bytes:
        """What can be sent on of it: all, unless it ends as the credential begins."""
        self._steps.left = min(MOST_STEPS, self._steps.left + len(data) // _BYTES_FOR_A_STEP)
        data = self._held + data
        end = self._echo.ends_in_part(data, self._steps)
        self._held = data[end:]
        return self._echo.covered(data[:end], self._steps)

    def end(self) -> bytes:
        """What is left when nothing more comes."""
        held, self._held = self._held, b""
        return self._echo.covered(held, self._steps)


def _piece_of(credential: bytes) -> tuple[int, bytes]:
    """Where in its middle third it has only letters and digits for longest; the whole where that is too short."""
    third = len(credential) // 3
    middle = credential[third : len(credential) - third]
    if not middle.isalnum():
        longest = max(_RUN.finditer(middle), key=_length, default=None)
        middle, third = (b"", 0) if longest is None else (longest[0], third + longest.start())
    return (third, middle) if len(middle) >= _WHOLE_PIECE else (0, credential)


def _length_of_value(field: tuple[bytes, bytes]) -> int:
    return len(field[1])


def _length(match: re.Match[bytes]) -> int:
    return match.end() - match.start()


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, and those that overlap as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
