"""A credential that an upstream repeats in its answer: found however it is written, and covered. Pure.

It is looked for by a piece of its middle third, which any two thirds of it have whole and which no usual encoding
changes; so an answer without it costs one search for a few bytes. Only where the piece is found, the rest is compared
character by character, each plain, percent-encoded (RFC 3986, also twice) or escaped as in JSON, JavaScript and HTML.
Base64 is looked for by itself.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from urllib.parse import unquote_to_bytes

from authpool.proxy.content import changed

LEAST_CHARACTERS = 6
"""Anything shorter is no secret, and would be found everywhere."""
LOOKED_AT_BYTES = 1024 * 1024
"""So much of a body, decoded, is looked at."""
MOST_PIECES = 1000
"""So many places of a body are compared closely; in what follows only the credential as it is counts."""
_WHOLE_PIECE = 4
_SURE_CHARACTERS = 32
_DECODINGS = 3
_LONGEST_ESCAPE = 8
_SEARCHED_FOR_BASE64_BYTES = 64 * 1024
_BASE64_BYTES = 9  # encoded without a remainder; longer than chance would repeat
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_RUN = re.compile(rb"[A-Za-z0-9]+")
_ESCAPES_BEGIN = frozenset(b"%\\&")
_SHORT_ESCAPE = re.compile(rb"%(?:2(?:5[0-9A-Fa-f]?)?|[0-9A-Fa-f])?|\\(?:u[0-9A-Fa-f]{0,3}|x[0-9A-Fa-f]?)?|&[#\w]{0,6}")
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
        if not self._is_in(b"\n".join(map(b"\n".join, fields))):
            return fields
        return tuple([(name, self._value(value)) for name, value in fields if not self._spans(name)])

    def text(self, text: str) -> str:
        """A message, or a reason phrase, likewise."""
        data = text.encode("utf-8", "surrogatepass")
        if not self._is_in(data):
            return text
        return self._value(data).decode("utf-8", "surrogatepass")

    def body(self, content: bytes, coding: str = "") -> bytes:
        """A body with the credential covered; the very same object where it is not in it, or can't be read.

        It is as long as before, unless it is compressed: then it is compressed anew, and cut where looking ended.
        """
        return changed(content, coding, self._beginning_covered, LOOKED_AT_BYTES)

    def stream(self) -> "StreamedEcho":
        """For a body that is sent on as it comes."""
        return StreamedEcho(self)

    def ends_in_part(self, data: bytes) -> int:
        """Where in `data` an echo begins whose end is still to come; the length of `data` where none does."""
        first = self._credential[:1]
        for at in range(max(0, len(data) - _LONGEST_ESCAPE * len(self._credential)), len(data)):
            if (data[at : at + 1] == first or data[at] in _ESCAPES_BEGIN) and self._is_begun(data, at):
                return at
        return len(data)

    def covered(self, data: bytes) -> bytes:
        """The same number of bytes, with the credential covered."""
        covered = self._covered(data)
        return data if covered is None else covered

    def _beginning_covered(self, content: bytes) -> bytes:
        looked_at = len(content) if self.for_client else LOOKED_AT_BYTES
        covered = self._covered(content[:looked_at] if len(content) > looked_at else content)
        return content if covered is None else covered + content[looked_at:]

    # --- finding it ---------------------------------------------------------------------------------------------

    def _is_in(self, data: bytes) -> bool:
        if len(self._credential) < LEAST_CHARACTERS:
            return False
        return self._piece in data or b"%" in data

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

    def _covered(self, data: bytes) -> bytes | None:
        """None where there is nothing to cover, as nearly always."""
        spans = self._spans(data)
        if not spans:
            return None
        covered = bytearray(data)
        for start, end in spans:
            covered[start:end] = self._mask(end - start)
        return bytes(covered)

    def _mask(self, length: int) -> bytes:
        return self.placeholder.ljust(length, b"*")[:length] if length >= len(self.placeholder) else b"*" * length

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        if len(self._credential) < LEAST_CHARACTERS:
            return []
        found = list(self._written_out(data)) if self._piece in data else []
        beginning = data[:_SEARCHED_FOR_BASE64_BYTES] if len(data) > _SEARCHED_FOR_BASE64_BYTES else data
        for coded in self._in_base64:
            if coded in beginning:  # then all is covered that it may be a part of
                found += [run.span() for run in _BASE64_RUN.finditer(data) if coded in run[0]]
        return _joined(found)

    def _written_out(self, data: bytes) -> Iterator[tuple[int, int]]:
        at = data.find(self._piece)
        for _ in range(MOST_PIECES):
            if at < 0:
                return
            start, end, same = self._extent(data, at)
            if same >= _SURE_CHARACTERS or same * 3 >= len(self._credential) * 2:
                yield start, end
            at = data.find(self._piece, max(end, at + 1))
        if at >= 0:
            yield from ((at + start, at + end) for start, end in _occurrences(data[at:], self._credential))

    def _extent(self, data: bytes, at: int) -> tuple[int, int, int]:
        """How far the credential reaches to both sides of its piece at `at`, and how much of it that is."""
        start, end = at, at + len(self._piece)
        before, after = self._piece_at, self._piece_at + len(self._piece)
        while before > 0 and (length := _escape_before(data, start, self._credential[before - 1])):
            start, before = start - length, before - 1
        while after < len(self._credential) and (match := _forms(self._credential[after]).match(data, end)):
            end, after = match.end(), after + 1
        return start, end, after - before

    def _is_begun(self, data: bytes, at: int) -> bool:
        for byte in self._credential:
            if at == len(data):
                return True
            match = _forms(byte).match(data, at)
            if match is None:
                return _SHORT_ESCAPE.fullmatch(data, at) is not None
            at = match.end()
        return False  # it is all there

    @cached_property
    def _in_base64(self) -> tuple[bytes, ...]:
        """Base64 of a part of its middle third: three ways, by where in the encoded text it begins."""
        third = len(self._credential) // 3
        part = self._credential[third : third + _BASE64_BYTES + 2]
        if len(part) < _BASE64_BYTES + 2:
            return ()
        found = [b64encode(part[at : at + _BASE64_BYTES]) for at in range(3)]
        return tuple(found + [coded.translate(_TO_URL_SAFE) for coded in found if b"+" in coded or b"/" in coded])


class StreamedEcho:
    """Covers the credential in a body that comes in pieces, also where it is cut in two."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be sent on of it: all, unless it ends as the credential begins."""
        data = self._held + data
        end = self._echo.ends_in_part(data)
        self._held = data[end:]
        return self._echo.covered(data[:end])

    def end(self) -> bytes:
        """What is left when nothing more comes."""
        held, self._held = self._held, b""
        return self._echo.covered(held)


def _piece_of(credential: bytes) -> tuple[int, bytes]:
    """Where in its middle third it has only letters and digits for longest; the whole where that is too short."""
    third = len(credential) // 3
    middle = credential[third : len(credential) - third]
    if not middle.isalnum():
        longest = max(_RUN.finditer(middle), key=_length, default=None)
        middle, third = (b"", 0) if longest is None else (longest[0], third + longest.start())
    return (third, middle) if len(middle) >= _WHOLE_PIECE else (0, credential)


def _length(match: re.Match[bytes]) -> int:
    return match.end() - match.start()


def _escape_before(data: bytes, end: int, byte: int) -> int:
    """How many bytes before `end` stand for `byte`; none: 0."""
    forms = _forms(byte)
    lengths = range(min(_LONGEST_ESCAPE, end), 0, -1)
    return next((length for length in lengths if forms.fullmatch(data, end - length, end)), 0)


@lru_cache(maxsize=256)
def _forms(byte: int) -> re.Pattern[bytes]:
    """Every way that one byte of a credential is written in."""
    character = bytes((byte,))
    digits = b"%02x" % byte
    named = b"|&%b;" % _NAMED[character] if character in _NAMED else b""
    slashed = rb"|\\" + re.escape(character) if character in b"/\\\"'" else b""
    forms = rb"(?i:%%(?:25)?%b|\\u00%b|\\x%b|&#0*%d;|&#x0*%b;%b)" % (
        digits,
        digits,
        digits,
        byte,
        digits.lstrip(b"0"),
        named,
    )
    return re.compile(forms + slashed + b"|" + re.escape(character))


def _occurrences(data: bytes, text: bytes) -> Iterable[tuple[int, int]]:
    return [match.span() for match in re.finditer(re.escape(text), data)]


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, and those that overlap as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
