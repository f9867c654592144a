"""Undoing a content coding that nobody asked for (RFC 9110 §8.4.1), and never to more than a limit. Pure.

Token endpoints are told `Accept-Encoding: identity`. One that compresses all the same may have a new refresh token in
its answer; and a few kilobytes that say they are compressed may become gigabytes.
"""

import zlib

_GZIP_MAGIC = b"\x1f\x8b"
_PLAIN = frozenset({"", "identity", "gzip", "x-gzip"})  # says gzip and is none: a proxy has undone it already
_JSON = frozenset({b"{", b"["})  # nothing that is compressed begins so: whatever it says, it is none
_PIECE_BYTES = 1024
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three formats


def decoded(data: bytes, coding: str, limit: int) -> tuple[bytes, bool]:
    """The content, at most `limit` bytes of it, and whether that is all; as far as it goes where it is damaged."""
    coding = coding.strip().lower()
    if data.startswith(_GZIP_MAGIC):
        return _inflated(data, _GZIP, limit)
    if coding == "deflate":
        return max(_inflated(data, _ZLIB, limit), _inflated(data, _RAW, limit), key=lambda found: len(found[0]))
    if coding in _PLAIN or data.lstrip()[:1] in _JSON:
        return data[:limit], len(data) <= limit
    return b"", False


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
