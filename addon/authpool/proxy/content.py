"""A body whose text is changed, in the content codings that it came in (RFC 9110 §8.4.1). Pure."""

import sys
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]

from authpool.oauth.content_coding import codings, decoded

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP_MAGIC = b"\x1f\x8b"
_FAST = 1
_GZIP = 31  # zlib's name for the format


def changed(content: bytes, coding: str, change: Callable[[bytes], bytes], limit: int) -> bytes:
    """Content with a change of what it says: decoded, at most `limit` bytes of it, changed and encoded anew.

    The very same object where nothing of that changes. What can't be decoded is changed as it is, as plain text is.
    `coding` is the field Content-Encoding.
    """
    if names := codings(coding):
        text, _ = decoded(content, coding, limit)
        result = change(text)
        if result != text:
            return encoded(result, names, "gzip" if content.startswith(_GZIP_MAGIC) else "")
    result = change(content)
    return content if result == content else result


def encoded(content: bytes, names: list[str], otherwise: str = "") -> bytes:
    """Content in these codings, one upon the other; in `otherwise` where one of them is not known here."""
    for name in names if _WRITERS.keys() >= set(names) else [otherwise]:
        content = _WRITERS[name](content)
    return content


def _gzip(content: bytes) -> bytes:
    writer = zlib.compressobj(_FAST, wbits=_GZIP)
    return writer.compress(content) + writer.flush()


def _deflate(content: bytes) -> bytes:
    return zlib.compress(content, _FAST)


def _brotli(content: bytes) -> bytes:
    result: bytes = brotli.compress(content, quality=_FAST)  # what it does by itself takes a second for a MiB
    return result


def _zstd(content: bytes) -> bytes:
    return zstd.compress(content, _FAST)


_WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
