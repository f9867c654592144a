"""Undoing a content coding (RFC 9110 §8.4.1), in pieces and never to more than a limit. Pure.

Token endpoints are told `Accept-Encoding: identity`. One that compresses all the same may have a new refresh token in
its answer; and a few kilobytes that say they are compressed may become gigabytes. Clients compress what they ask, too.
"""

import codecs
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import brotli  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST_CODINGS = 3
_GZIP_MAGIC = b"\x1f\x8b"
_PLAIN = frozenset({"", "identity", "none"})
_GZIP_NAMES = frozenset({"gzip", "x-gzip"})
_JSON = frozenset({b"{", b"["})
_PIECE_BYTES = 1024
_INFLATED_BYTES = (64 * 1024, 1024, 1)
"""So much is inflated at once, and less where that is damaged: what stands before the damage is wanted."""
_MOST_MEMBERS = 1000
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three formats
_ZSTD_WINDOW_LOG = 23  # 8 MiB, which RFC 9659 allows a content coding; a frame may ask for gigabytes


def decoded(data: bytes, coding: str, limit: int) -> tuple[bytes, bool]:
    """The content, at most `limit` bytes of it, and whether that is all; as far as it goes where it is damaged.

    `coding` is the field Content-Encoding: several of them, the last applied first undone.
    """
    names = codings(coding) or [""]
    if len(names) > MOST_CODINGS:
        return b"", False
    whole = True
    for name in reversed(names):
        data, complete = _undone(data, name, limit)
        whole = whole and complete
    return data, whole


def codings(field: str) -> list[str]:
    """What the field Content-Encoding names, the first applied first, without those that change nothing."""
    return [name for name in (part.strip().lower() for part in field.split(",")) if name not in _PLAIN]


def _undone(data: bytes, coding: str, limit: int) -> tuple[bytes, bool]:
    if data[:2] and _GZIP_MAGIC.startswith(data[:2]):
        return _inflated(data, _GZIP, limit)
    if coding in _PLAIN or coding in _GZIP_NAMES:
        return data[:limit], len(data) <= limit
    content, whole = _of_coding(data, coding, limit)
    if not whole and len(content) < limit and _is_json(data):
        return data[:limit], len(data) <= limit  # says it is compressed and is not: a proxy has undone it already
    return content, whole


def _of_coding(data: bytes, coding: str, limit: int) -> tuple[bytes, bool]:
    match coding:
        case "deflate":
            return _deflated(data, limit)
        case "br":
            return _in_pieces(data, _Brotli, limit)
        case "zstd":
            return _in_pieces(data, _Zstd, limit)
    return b"", False


def _is_json(data: bytes) -> bool:
    """Whether data are the text of a JSON document, or the beginning of one."""
    if data.lstrip(b" \t\r\n")[:1] not in _JSON:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except ValueError:
        return False
    return True


class _Decoder(Protocol):
    """Undoes one coding. `finished`: nothing more belongs to it."""

    @property
    def finished(self) -> bool: ...

    def more(self, data: bytes, room: int) -> bytes:
        """At most `room` bytes of what `data` adds; empty when it wants more input. Raises ValueError on damage."""


class _Brotli:
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    @property
    def finished(self) -> bool:
        return bool(self._decoder.is_finished())

    def more(self, data: bytes, room: int) -> bytes:
        try:
            return bytes(self._decoder.process(data, output_buffer_limit=room))
        except brotli.error:
            raise ValueError("damaged") from None


class _Zstd:
    def __init__(self) -> None:
        self._decoder = _zstd_decoder()

    @property
    def finished(self) -> bool:
        return self._decoder.eof and not self._decoder.unused_data

    def more(self, data: bytes, room: int) -> bytes:
        if self._decoder.eof:  # a frame is followed by another (RFC 8878 §3)
            data, self._decoder = self._decoder.unused_data + data, _zstd_decoder()
        try:
            return self._decoder.decompress(data, max_length=room)
        except zstd.ZstdError:
            raise ValueError("damaged") from None


def _zstd_decoder() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _in_pieces(data: bytes, make: Callable[[], _Decoder], limit: int) -> tuple[bytes, bool]:
    decoder = make()
    content = bytearray()
    start = 0
    try:
        while len(content) <= limit:
            piece, start = data[start : start + _PIECE_BYTES], start + _PIECE_BYTES
            found = decoder.more(piece, limit + 1 - len(content)) if piece or not decoder.finished else b""
            content += found
            while found and len(content) <= limit:  # what it has taken in, and had no room for
                found = decoder.more(b"", limit + 1 - len(content)) if not decoder.finished else b""
                content += found
            if start >= len(data):
                break
    except ValueError:
        return bytes(content[:limit]), False
    return bytes(content[:limit]), decoder.finished and len(content) <= limit


def _deflated(data: bytes, limit: int) -> tuple[bytes, bool]:
    found = _inflated(data, _ZLIB, limit)
    if found[1] or len(found[0]) == limit:
        return found
    return max(found, _inflated(data, _RAW, limit), key=lambda found: len(found[0]))  # some servers take it for that


def _inflated(data: bytes, wbits: int, limit: int) -> tuple[bytes, bool]:
    content, whole = bytearray(), False
    rest = memoryview(data)
    for _ in range(_MOST_MEMBERS):  # a member of gzip is followed by another (RFC 1952 §2.2)
        found, taken = _member(rest, wbits, limit - len(content))
        content += found
        whole = taken is not None and len(content) <= limit
        rest = rest[taken:]
        if not whole or wbits != _GZIP or rest[:2] != _GZIP_MAGIC:
            return bytes(content[:limit]), whole
    return bytes(content), False


def _member(data: memoryview, wbits: int, limit: int) -> tuple[bytes, int | None]:
    """At most one byte more than `limit`, and how many bytes it is made of; None where its end was not met."""
    inflater = zlib.decompressobj(wbits)
    content = bytearray()
    sizes = iter(_INFLATED_BYTES)
    start, size = 0, next(sizes)
    while size and start < len(data) and len(content) <= limit:
        attempt = inflater.copy()
        try:
            content += attempt.decompress(data[start : start + size], limit + 1 - len(content))
        except zlib.error:
            size = next(sizes, 0)
            continue
        inflater, start = attempt, start + size
        if inflater.eof:
            return bytes(content), min(start, len(data)) - len(inflater.unused_data)
    return bytes(content), None
