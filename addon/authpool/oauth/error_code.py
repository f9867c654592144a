"""The error code in an answer of a token endpoint, and the standard code that a pool's `codes` make of it. Pure.

Everything is compared for equality. The standard codes are looked for where RFC 6749 §5.2 and its variants have them
(`error`, an `error` object's `code`); only what `codes` names may also stand in `error_codes` (Microsoft), be a word of
the description that looks like a provider's code (AADSTS50196), or, with a space in it, be all of the description.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from authpool.accounts.printable import printable
from authpool.config.error_codes import CLIENT_CODES, SIGN_IN_CODES, TRANSIENT_CODES
from authpool.oauth.provider_text import harmless_words

_PROVIDER_CODE = re.compile(r"(?<![\w-])[A-Za-z]+\d[A-Za-z0-9]*(?![\w-])")  # as AADSTS50196; no word of a language
_STANDARD_CODES = CLIENT_CODES | SIGN_IN_CODES | TRANSIENT_CODES | {"invalid_grant", "unsupported_response_type"}


def code_of(document: Mapping[str, Any], codes: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Find the standard code that an answer stands for, and the code that was sent for it."""
    phrases = {_phrase(key): key for key in codes if " " in key}
    for told in _details_of(document):
        sent = told if told in codes else phrases.get(_phrase(told))
        if sent is not None:
            return codes[sent], sent
    error = document.get("error")
    if isinstance(error, dict):
        error = error.get("code")
    if not isinstance(error, str) or not error:
        return None, None
    return codes.get(error, error), error


def shown_code(code: str) -> str:
    """A code as it may be told: word for word where it is a standard one, else as far as it can't be a secret."""
    return code if code in _STANDARD_CODES else harmless_words(code)


def _details_of(document: Mapping[str, Any]) -> Iterator[str]:
    """What an answer tells beside its code and `codes` may name: numbers, codes in the description, all of that."""
    numbers = document.get("error_codes")
    for number in numbers if isinstance(numbers, list) else ():
        if isinstance(number, int | str):
            yield str(number)
    description = description_of(document)
    yield from _PROVIDER_CODE.findall(description)
    if " " in description:
        yield description


def _phrase(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()


def description_of(document: Mapping[str, Any]) -> str:
    """The description of an error, in the places where providers put it."""
    description = document.get("error_description")
    error = document.get("error")
    if isinstance(error, dict):
        description = description or error.get("message") or error.get("description")
    return printable(description) if isinstance(description, str) else ""
