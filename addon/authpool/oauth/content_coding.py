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
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three formats
_ZSTD_WINDOW_LOG = 23  # 8 MiB, which RFC 9659 allows a content coding; a frame may ask for gigabytes


def decoded(data: bytes, coding: str, limit: int) -> tuple[bytes, bool]:
    """The content, at most `limit` bytes of it, and whether that is all; as far as it goes where it is damaged.

    `coding` is the field Content-Encoding: several of them, the last applied first undone.
    """
    codings = [name for name in (part.strip().lower() for part in coding.split(",")) if name not in _PLAIN] or [""]
    if len(codings) > MOST_CODINGS:
        return b"", False
    whole = True
    for name in reversed(codings):
        data, complete = _undone(data, name, limit)
        whole = whole and complete
    return data, whole


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
            return max(_inflated(data, _ZLIB, limit), _inflated(data, _RAW, limit), key=lambda found: len(found[0]))
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


def _inflated(data: bytes, wbits: int, limit: int) -> tuple[bytes, bool]:
    inflater = zlib.decompressobj(wbits)
    content = bytearray()
    size = _PIECE_BYTES
    start = 0
    while start < len(data) and not inflater.eof:
        attempt = inflater.copy()
        try:
            content += attempt.decompress(data[start : start + size], limit + 1 - len(content))
        except zlib.error:
            if size == 1:
                return bytes(content), False
            size = 1  # what stands before the damage is in this piece
            continue
        inflater, start = attempt, start + size
        if len(content) > limit:
            return bytes(content[:limit]), False
    return bytes(content), inflater.eof
