"""How an account's name becomes a file's name, and which names can't."""

import re
import unicodedata
from urllib.parse import quote, unquote

from authpool.accounts.printable import is_printable
from authpool.errors import RefusedError

ENCODED_BYTES = 240
"""The longest encoded name; with a suffix it still fits the 255 bytes that file systems allow."""

_SHOWN_CHARACTERS = 60
_SAFE = "@+~"
_PLAIN = re.compile(
    rf"[A-Za-z0-9_@+~-][A-Za-z0-9_@+~.-]{{0,{ENCODED_BYTES - 1}}}"
)  # nearly every name: encodes to itself
_UNWRITABLE = {"Cc": "control characters", "Cs": "lone surrogates", "Zl": "line breaks", "Zp": "line breaks"}


def check_name(name: str) -> None:
    """Refuse a name that can't be an account's, before anything is done for it. Raises RefusedError."""
    if problem := _problem(name):
        raise RefusedError(f"{_shown(name)} can't be an account name: {problem}")


def encode_name(name: str) -> str:
    """Percent-encode a name (RFC 3986 §2.1), its leading dot too: a file with one is not an account's."""
    encoded = quote(name, safe=_SAFE, errors="surrogatepass")
    return f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded


def decode_name(encoded: str) -> str:
    """Undo `encode_name`, also for a file that somebody named by hand. Raises ValueError, fit to be shown."""
    if _PLAIN.fullmatch(encoded):
        return encoded
    try:
        name = unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("its file name is not percent-encoded UTF-8") from None
    if problem := _problem(name):
        raise ValueError(f"its file name can't be an account's: {problem}")
    return name


def _problem(name: str) -> str | None:
    if _PLAIN.fullmatch(name):
        return None
    if not name:
        return "it is empty"
    for character in name:
        if what := _UNWRITABLE.get(unicodedata.category(character)):
            return f"it has {what}"
    if not is_printable(name):
        return "it has characters that can't be seen, or turn the writing around"
    # The lock file carries the folded name, which can be the longer one.
    longest = max(len(encode_name(name)), len(encode_name(name.casefold())))
    if longest > ENCODED_BYTES:
        return f"it takes {longest} bytes as a file name, {ENCODED_BYTES} are possible"
    return None


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}...")
