"""What may be kept of a provider's own words: codes, and words that can't be a secret. Pure.

A token endpoint may repeat what it was sent, plain or encoded, whole or in part. So its text is not searched for what
is forbidden: a word is kept that looks like one of a language, and everything else goes.
"""

import base64
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, pairwise

REDACTED = "[redacted]"
LONGEST_WORD = 16
LONGEST_TEXT = 4096
_PUNCTUATION = ".,;:!?()[]{}<>\"'`\u2018\u2019\u201c\u201d\u3001\u3002"
_PROVIDER_CODE = re.compile(r"[A-Z]{2,10}\d{1,10}|\d{1,6}")  # as AADSTS700082
_JOINTS = re.compile(r"[-_/'\u2019]")  # as in `invalid_grant`, `access/refresh`, `don't`
_ODD_SPELLINGS = frozenset({"OAuth", "OpenID", "OIDC", "IdP", "PKCE", "JSON", "GitHub", "URIs", "URLs", "IDs", "APIs"})
_SHORT, _SHORT_ROW = 4, 5
"""More than so many words in a row, of at most so many letters each, are something that was written in groups."""
_WINDOW = 8
_NOT_ALPHANUMERIC = re.compile(r"[^0-9A-Za-z]+")
_LEAST = 4
_LEAST_OF_A_NAME = 20  # some providers write the account's name into its tokens


def harmless_words(text: str) -> str:
    """A provider's text without anything that may be a secret, however it is encoded."""
    words = unicodedata.normalize("NFKC", text[:LONGEST_TEXT]).split()
    rows = [list(row) for _, row in groupby(words, _is_short)]
    kept = [
        told
        for row in rows
        for told in ([REDACTED] if len(row) > _SHORT_ROW and _is_short(row[0]) else chain(*map(_told, row)))
    ]
    return " ".join(word for before, word in pairwise(["", *kept]) if not before == word == REDACTED)


def without_sent(text: str, secrets: Iterable[str | None]) -> str:
    """A text without these secrets, which its author was sent: nothing of it is left where it spells a part of one."""
    known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, REDACTED)
        for form in (secret, secret[::-1]) if len(secret) >= _LEAST else ():
            text = re.sub(re.escape(form), REDACTED, text, flags=re.IGNORECASE)
    if not _any_spelt(text, known):
        return text
    code, colon, _ = text.partition(": ")
    return f"{code}: {REDACTED}" if colon and not _any_spelt(code, known) else REDACTED


def repeats(told: str, secrets: Iterable[str | None]) -> bool:
    """Whether a name that a provider tells is a credential that it was shown, or has most of one in it."""
    squeezed = _squeezed(told)
    forms = (_squeezed(form) for secret in secrets if secret for form in _encodings(secret))
    return any(_is_spelt(squeezed, form, max(_LEAST_OF_A_NAME, len(form) * 2 // 3)) for form in forms)


def _encodings(secret: str) -> tuple[str, str, str]:
    data = secret.encode("utf-8", "replace")
    return secret, base64.b64encode(data).decode().rstrip("="), data.hex()


def _spells(text: str, secret: str, size: int) -> bool:
    """Whether so long a part of a secret is in a text, forwards or backwards, whatever stands between its letters."""
    return _is_spelt(_squeezed(text), _squeezed(secret), size)


def _is_spelt(squeezed: str, wanted: str, size: int) -> bool:
    size = min(size, len(wanted))
    if len(wanted) < _LEAST or len(squeezed) < size:
        return False
    return any(part in squeezed or part[::-1] in squeezed for part in _parts(wanted, size))


def _any_spelt(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text has a part of one of these that is long enough to be no accident."""
    text = text.replace(REDACTED, " ")
    return any(_spells(text, one, _WINDOW) for one in secrets)


def _told(word: str) -> tuple[str, ...]:
    """What is kept of a word: all, nothing, or what it says of a value, as in `token=...`."""
    if _is_harmless(word):
        return (word,)
    name, sign, _ = re.split(r"([=:])", word, maxsplit=1) if re.search(r"[=:]", word) else ("", "", "")
    return (name + sign, REDACTED) if name and _is_harmless(name) else (REDACTED,)


def _is_harmless(word: str) -> bool:
    core = word.strip(_PUNCTUATION)
    if len(word) > LONGEST_WORD or not core:
        return len(word) <= _LEAST and not core
    return _PROVIDER_CODE.fullmatch(core) is not None or all(_is_word(part) for part in _JOINTS.split(core))


def _is_word(part: str) -> bool:
    """Spelt as a word of a language is: in one case, or with its first letter a capital."""
    return part in _ODD_SPELLINGS or (part.isalpha() and (part[1:].islower() or part == part.upper() or len(part) == 1))


def _is_short(word: str) -> bool:
    return len(word.strip(_PUNCTUATION)) <= _SHORT


def _squeezed(text: str) -> str:
    if text.isascii():
        return _NOT_ALPHANUMERIC.sub("", text).lower()
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _parts(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(len(text) - size + 1))
