"""The accounts in a text, whose form is told by its content: JSON, JSON lines, or a table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from authpool.verbs.import_formats.documents import bare_entry, entry_of
from authpool.verbs.import_formats.entry import Found, Unreadable
from authpool.verbs.import_formats.tables import table_entries

_LISTS = ("accounts", "items")
"""Under which a document keeps a list of accounts."""


def text_entries(text: str, origin: str, path: Path | None = None) -> Iterator[Found]:
    """Read every account of a text; `path` is the file it is from."""
    content = text.replace("\x00", "").removeprefix("\ufeff").strip()  # Antigravity Manager leaves both behind
    if not content:
        yield Unreadable(where=origin, problem="it is empty", foreign=True)
    elif not content.startswith(("{", "[")):
        yield from table_entries(text.replace("\x00", "").removeprefix("\ufeff"), origin)
    elif (document := parsed(content)) is not None:
        yield from _document_entries(document, origin, path)
    elif content.startswith("{") and len(lines := text.splitlines()) > 1 and parsed(content.splitlines()[0].strip()):
        yield from _line_entries(lines, origin)
    else:
        yield Unreadable(where=origin, problem="it is not valid JSON")


def parsed(text: str) -> Any:
    """What a JSON text says; None where it is none. No error is told: a parser's carries the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _document_entries(document: Any, origin: str, path: Path | None) -> Iterator[Found]:
    if isinstance(document, list):
        yield from _list_entries(document, origin)
        return
    listed = next((document[key] for key in _LISTS if isinstance(document.get(key), list)), None)
    if listed is not None:
        yield from _list_entries(listed, origin)
    else:
        yield entry_of(document, origin, path)


def _list_entries(items: list[Any], origin: str) -> Iterator[Found]:
    for number, item in enumerate(items, 1):
        yield _one(item, f"{origin}, number {number}")


def _line_entries(lines: list[str], origin: str) -> Iterator[Found]:
    for number, line in enumerate(lines, 1):
        if line.strip(" \t\r\x00\ufeff"):
            where = f"{origin}, line {number}"
            document = parsed(line.strip(" \t\r\x00\ufeff"))
            yield Unreadable(where=where, problem="it is not valid JSON") if document is None else _one(document, where)


def _one(item: Any, where: str) -> Found:
    return entry_of(item, where) if isinstance(item, dict) else bare_entry(item, where)
