"""What can be read out of the body of a token endpoint's answer, however it is written and wherever it ends. Pure.

A success is read as far as that goes, for the refresh token in it exists nowhere else: in any charset, as a form, with
something before or behind the object, inside another one, cut off. An error is believed only of a whole document.
"""

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from authpool.oauth.odd_spelling import odd_members, usually_spelt

FORM_TYPE = "application/x-www-form-urlencoded"

_BLANK = "\ufeff\x00 \t\r\n"
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_CHARSETS = re.compile(
    r"(us-)?ascii|iso-?8859|latin|windows-|cp-?\d|utf-?(8|16|32)|shift_?jis|euc|gb|big5|koi8", re.IGNORECASE
)
"""Those that texts are written in; Python knows others, which would turn text into other text."""
_FORM = re.compile(r"\s*[\w.~+%-]+=(?:[^\s<>{}\"]| )*\s*")  # a blank as it is, too: a scope that nobody encoded
_TOKENS = ("access_token", "refresh_token")
_STRINGS = (*_TOKENS, "token_type", "scope", "id_token")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_MEMBER = re.compile(
    rf'"(?P<name>{"|".join(_STRINGS)})"\s*:\s*(?P<string>{_STRING.pattern})'
    r'|"(?P<number_name>expires_in)"\s*:\s*"?(?P<number>\d{1,18})(?=\s*[",}\s])',
    re.DOTALL,
)
_DECODER = json.JSONDecoder(
    strict=False,  # a line break in a description is not worth a token
    object_pairs_hook=lambda pairs: _members(pairs),  # noqa: PLW0108 - it is defined below
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What arrived. `whole`: as far as HTTP can tell, that was all of it."""

    data: bytes = field(repr=False)
    content_type: str | None = None
    whole: bool = True


def whole_document(body: Body) -> dict[str, Any] | None:
    """The JSON object, or the form that is declared as one, that makes up all of the body."""
    text = text_of(body).strip(_BLANK)
    document, end = _object_at(text, 0)
    if document is not None and end == len(text):
        return document
    if body.whole and FORM_TYPE in (body.content_type or "").lower():
        return form_of(text)
    return None


def leading_document(body: Body) -> dict[str, Any] | None:
    """The JSON object that the body begins with, whatever stands behind it; or the form, declared or not."""
    text = text_of(body).strip(_BLANK)
    document, _ = _object_at(text, 0)
    if document is not None:
        return usually_spelt(document)
    form = form_of(text, whole=body.whole) or {}
    wanted = _TOKENS if body.whole else ("refresh_token",)  # what is missing may be that
    return form if any(form.get(name) for name in wanted) else None


def remains(body: Body, known: str | None = None) -> dict[str, Any]:
    """The members of a token response that stand anywhere in the body, each of them whole.

    `known` is a token that is no news (an answer may repeat what was sent). Where several values of one name are left,
    nobody can tell which is meant, and none is answered.
    """
    text = text_of(body)
    found = _members_in(text, known)
    return found if "refresh_token" in found else found | odd_members(text, known)


def _members_in(text: str, known: str | None) -> dict[str, Any]:
    found: dict[str, set[Any]] = {}
    for part in (text, *_inner_texts(text)):
        for match in _MEMBER.finditer(part):
            name = match["number_name"] or match["name"]
            value = int(match["number"]) if match["number_name"] else _string(match["string"])
            if value is not None and value not in {"", known}:
                found.setdefault(name, set()).add(value)
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def _inner_texts(text: str) -> list[str]:
    """The strings in which a whole document was written as text, as serverless platforms wrap an answer."""
    strings = (match[0] for match in _STRING.finditer(text) if r"\"refresh_token\"" in match[0])
    return [inner for inner in map(_string, strings) if inner]


def _string(literal: str) -> str | None:
    try:
        value = json.loads(literal, strict=False)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def form_of(text: str, *, whole: bool = True) -> dict[str, Any] | None:
    """The fields of a form, the last of each name; of one that was cut off, without the field it was cut in."""
    if not whole:
        text = text.rpartition("&")[0]
    if not _FORM.fullmatch(text):
        return None
    return _members(parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=None))


def text_of(body: Body) -> str:
    """The body as text: UTF-8, or UTF-16 and 32 by what they look like (RFC 8259), else as declared, else Windows'."""
    declared = _CHARSET.search(body.content_type or "")
    names: list[str] = [json.detect_encoding(body.data)]
    if declared is not None and _CHARSETS.match(declared[1]):
        names.append(declared[1])
    for name in (*names, "cp1252"):
        try:  # not to the end: a character that was cut in two is no error
            return codecs.getincrementaldecoder(name)().decode(body.data)
        except (LookupError, ValueError):
            continue
    return body.data.decode("latin-1")


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    try:
        document, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return (document, end) if isinstance(document, dict) else (None, start)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of each name, but no token is replaced by something that is none."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        empty = not isinstance(value, str) or not value
        if not (name in _TOKENS and empty and members.get(name)):
            members[name] = value
    return members
