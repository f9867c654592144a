"""The codings of answers (RFC 9110 §8.4.1): undone to a limit and no further, and done again."""

import sys
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
from mitmproxy.net import encoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP_OR_ZLIB, _RAW = 47, -15


def decoded(content: bytes, coding: str, limit: int) -> bytes | None:
    """At most `limit` bytes of the content, as far as it is sound; None for a coding that is not known here."""
    read = _READERS.get(coding)
    try:
        return None if read is None else read(content, limit)
    except (zlib.error, zstd.ZstdError, brotli.error, TypeError):  # brotli before 1.2 knows no limit
        return None


def encoded(content: bytes, coding: str) -> bytes:
    """Content in a coding that `decoded` knows."""
    result: bytes = encoding.encode(content, "gzip" if coding == "x-gzip" else coding)
    return result


def _inflated(content: bytes, limit: int) -> bytes:
    return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(content, limit)


def _deflated(content: bytes, limit: int) -> bytes:
    try:
        return _inflated(content, limit)
    except zlib.error:
        return zlib.decompressobj(_RAW).decompress(content, limit)  # what some servers take deflate for


def _unbrotlied(content: bytes, limit: int) -> bytes:
    result: bytes = brotli.Decompressor().process(content, output_buffer_limit=limit)
    return result[:limit]


def _unzstd(content: bytes, limit: int) -> bytes:
    return zstd.ZstdDecompressor().decompress(content, limit)


_READERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflated,
    "x-gzip": _inflated,
    "deflate": _deflated,
    "br": _unbrotlied,
    "zstd": _unzstd,
}
