"""What is found of an account's credentials in a record that can't be read as an account. Pure.

Such a record may hold a living grant all the same: whoever removes it for good has to end that one, or to say that
nobody can.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from authpool.accounts.account import OAuthClient
from authpool.accounts.document import Document
from authpool.errors import BrokenAccountError, SealedError
from authpool.store.sealing.sealed_document import sealed_with
from authpool.store.sealing.sealed_value import PREFIX

_BLANK = " \t\r\n\x00\ufeff"
_NAME = "refresh_token"
_MEMBER = re.compile(rf"""["']?{_NAME}["']?\s*=\s*(?P<value>"(?:[^"\\\n]|\\.)+"|'[^'\n]+')""")
_MARKS = re.compile(r"""added_from\s*=\s*["']([0-9a-f ]+)["']""")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadRecord:
    """What was found. `where` names the record for people, `trouble` says why there may be more; empty: that is all.

    `marks` are the fingerprints of refresh tokens that were exchanged for what it holds, as far as it tells.
    """

    where: str
    refresh_tokens: tuple[str, ...] = field(default=(), repr=False)
    client: OAuthClient | None = None
    marks: tuple[str, ...] = ()
    trouble: str = ""


def found_in(content: bytes, where: str, opened: Callable[[Document], Document]) -> UnreadRecord:
    """Look through a record's content; `opened` opens what is sealed in it, and raises SealedError and the like."""
    text = content.decode("utf-8", "replace").replace("\x00", "").strip(_BLANK)
    if not text:
        return UnreadRecord(where=where)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):
        return _found_in_text(text, where)
    try:
        document = opened(document) if sealed_with(document) else document
    except (SealedError, BrokenAccountError) as error:
        return UnreadRecord(where=where, trouble=str(error), marks=_marks(document.get("added_from")))
    if sealed_with(document):
        return UnreadRecord(where=where, trouble="what is sealed in it can't be opened: its generation is no number")
    values = list(_members(document))
    tokens = tuple(dict.fromkeys(value for value in values if isinstance(value, str) and value))
    odd = any(not isinstance(value, str) for value in values)
    return UnreadRecord(
        where=where,
        refresh_tokens=tokens,
        client=_client(document.get("client")),
        marks=_marks(document.get("added_from")),
        trouble=f"its {_NAME} is no text" if odd else "",
    )


def _found_in_text(text: str, where: str) -> UnreadRecord:
    """In what is no TOML: whatever still looks like the line of a refresh token."""
    tokens: list[str] = []
    for match in _MEMBER.finditer(text):
        try:
            tokens.append(str(tomllib.loads(f"value = {match['value']}")["value"]))
        except ValueError:
            continue
    all_found = tokens and len(tokens) == text.count(_NAME) and PREFIX not in text
    marks = _MARKS.search(text)
    return UnreadRecord(
        where=where,
        refresh_tokens=tuple(dict.fromkeys(tokens)),
        marks=_marks(None if marks is None else marks[1]),
        trouble="" if all_found else "it is not valid TOML",
    )


def _members(value: object) -> Iterator[object]:
    """Every member of that name, wherever it stands."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if name == _NAME:
                yield member
            else:
                yield from _members(member)
    elif isinstance(value, list):
        for member in value:
            yield from _members(member)


def _client(table: Any) -> OAuthClient | None:
    if not isinstance(table, dict) or not isinstance(table.get("client_id"), str):
        return None
    secret = table.get("client_secret")
    return OAuthClient(client_id=table["client_id"], client_secret=secret if isinstance(secret, str) else None)


def _marks(value: object) -> tuple[str, ...]:
    return tuple(value.split()) if isinstance(value, str) else ()
