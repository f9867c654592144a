"""Which media types a pool names, as in an Accept header: ``text/plain``, ``text/*``, ``*/*`` (RFC 9110 §12.5.1)."""

import re
from collections.abc import Sequence

_NAME = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"  # RFC 6838 §4.2
_RANGE = re.compile(rf"\*/\*|{_NAME}/(?:\*|{_NAME})")


def parse_media_range(text: str) -> str:
    """Bring a media range into the form that compares. Raises ValueError with the problem as a sentence."""
    media_range = text.strip().lower()
    if ";" in media_range:
        raise ValueError("has a parameter, and only types are compared.")
    if not _RANGE.fullmatch(media_range):
        raise ValueError("is not a media type.")
    return media_range


def is_in_range(content_type: str, ranges: Sequence[str]) -> bool:
    """Whether the value of a Content-Type field, in small letters, is in one of the ranges."""
    media_type = content_type.partition(";")[0].strip()
    kind = media_type.partition("/")[0]
    return bool(media_type) and any(known in ranges for known in (media_type, f"{kind}/*", "*/*"))
