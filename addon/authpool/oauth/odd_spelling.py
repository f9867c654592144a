"""A token response in another spelling than RFC 6749's: `refreshToken`, single quotes, bare names, XML. Pure.

Looked for only where nothing is found in the usual one: a refresh token that exists nowhere else may be in it.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

NAMES = ("access_token", "refresh_token", "token_type", "scope", "id_token", "expires_in")
_BY_LETTERS = {name.replace("_", ""): name for name in NAMES}
_NAME = "(" + "|".join(name.replace("_", "[_-]?") for name in NAMES) + ")"
_DOUBLE = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_SINGLE = r"'[^'\\]*(?:\\.[^'\\]*)*'"
_MEMBER = re.compile(
    rf"""(?<![\w-])["']?{_NAME}["']?\s*(?::|=>?)\s*({_DOUBLE}|{_SINGLE}|\d{{1,18}}(?=\s*[,;}})\s]))""",
    re.IGNORECASE | re.DOTALL,
)
_ELEMENT = re.compile(
    rf"<(?:\w+:)?{_NAME}(?:\s[^<>]*)?>\s*(<!\[CDATA\[[^<>\[\]]*\]\]>|[^<>]+)\s*</"  # an element that has an end
    rf"|<key>\s*{_NAME}\s*</key>\s*<\w+>\s*([^<>]+)</",  # a property list
    re.IGNORECASE | re.DOTALL,
)


def usually_spelt(document: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a document, and those of a token response by their usual names; what has one already keeps it."""
    members = dict(document)
    for name, value in document.items():
        usual = _usual(name)
        if usual is not None and not members.get(usual):
            members[usual] = value
    return members


def odd_members(text: str, known: str | None) -> dict[str, Any]:
    """The members of a token response in any of these spellings; none where several values of one name differ."""
    found: dict[str, set[str]] = {}
    for name, value in _members(text):
        if value and value != known:
            found.setdefault(_usual(name) or name, set()).add(value)
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def _members(text: str) -> Iterator[tuple[str, str | None]]:
    for match in _MEMBER.finditer(text):
        if not match[2].isdigit() or _usual(match[1]) == "expires_in":
            yield match[1], _value(match[2])
    for match in _ELEMENT.finditer(text):
        name, content = (match[1], match[2]) if match[1] else (match[3], match[4])
        cdata = content.startswith("<![CDATA[")
        yield name, content[9:-3] if cdata else html.unescape(content.strip())


def _usual(name: str) -> str | None:
    return _BY_LETTERS.get(name.replace("_", "").replace("-", "").lower())


def _value(literal: str) -> str | None:
    if literal[0] not in "\"'":
        return literal
    if literal[0] == "'":
        literal = '"' + literal[1:-1].replace(r"\'", "'").replace('"', r"\"") + '"'
    try:
        value = json.loads(literal, strict=False)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
