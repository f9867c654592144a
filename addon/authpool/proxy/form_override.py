"""A form whose own field names another method than the request's: Rack and Laravel act on that. Pure."""

import re
from urllib.parse import unquote_plus

from mitmproxy import http

from authpool.proxy.request_head import OVERRIDE_PARAMETERS

_PART = re.compile(rb"""\bname\*?\s*=\s*["']?(?:[\w-]*'[^']*')?([^"';\r\n]{1,64})""", re.IGNORECASE)
_LONGEST_NAME = 200  # percent-encoded throughout, those that are looked for are shorter


def names_a_method(request: http.Request) -> bool:
    """Whether the body is a form with such a field. One that streams is not looked at."""
    content = request.raw_content
    if not content or request.stream:
        return False
    kind = request.headers.get("content-type", "").lstrip().lower()
    if kind.startswith("application/x-www-form-urlencoded"):
        return any(_is_override(field.partition(b"=")[0]) for field in re.split(rb"[&;]", content))
    if kind.startswith("multipart/form-data"):
        return any(_is_override(name) for name in _PART.findall(content))
    return False


def _is_override(name: bytes) -> bool:
    if len(name) > _LONGEST_NAME:
        return False
    return unquote_plus(name.decode("latin-1")).strip().lower() in OVERRIDE_PARAMETERS
