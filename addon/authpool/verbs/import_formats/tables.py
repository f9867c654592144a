"""Lists of accounts with one on each line: CSV, TSV, and refresh tokens alone.

A line is read by itself, so that a quote which nobody closed spoils no more than that one.
"""

import csv
from collections.abc import Iterator, Sequence

from authpool.verbs.import_formats.documents import bare_entry, entry_of
from authpool.verbs.import_formats.entry import Found, Unreadable

_DELIMITERS = "\t,;"
_TOKEN = "refresh_token"
_COLUMNS = {
    "refreshtoken": _TOKEN,
    "refresh token": _TOKEN,
    "account": "name",
    "user": "name",
    "username": "name",
    "e-mail": "email",
    "mail": "email",
    "label": "custom_label",
}
"""What people call the columns, besides the names that are ours."""
_TOKENS = frozenset({_TOKEN, "secret", "access_token"})


def table_entries(text: str, origin: str) -> Iterator[Found]:
    """Read a table: ``name,refresh_token`` on each line, or named columns in any order under a header."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        return
    delimiter = next((one for one in _DELIMITERS if one in lines[0][1]), None)
    columns: Sequence[str] | None = None
    for place, (number, line) in enumerate(lines):
        where = f"{origin}, line {number}"
        cells = [line.strip()] if delimiter is None else _cells(line, delimiter)
        if place == 0 and cells is not None and (columns := _header(cells)) is not None:
            continue
        yield _row(cells, columns, where)


def _cells(line: str, delimiter: str) -> list[str] | None:
    try:
        (row,) = csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True)
    except (csv.Error, ValueError):
        return None
    return [cell.strip() for cell in row]


def _header(cells: Sequence[str]) -> Sequence[str] | None:
    """The names of the columns, as ours, where the first line has them and no account."""
    names = [cell.casefold().replace("-", "_") for cell in cells]
    named = [_COLUMNS.get(name, name) for name in names]
    return named if _TOKENS & set(named) else None


def _row(cells: Sequence[str] | None, columns: Sequence[str] | None, where: str) -> Found:
    if cells is None:
        return Unreadable(where=where, problem="a quote in it is not closed, or stands in the middle of a value")
    if columns is not None:
        if len(cells) > len(columns):
            return Unreadable(where=where, problem=f"it has {len(cells)} values, and the header names {len(columns)}")
        return entry_of(dict(zip(columns, cells, strict=False)), where)
    match cells:
        case [secret]:
            return bare_entry(secret, where)
        case [name, secret]:
            return bare_entry(secret, where, name or None)
        case _:
            problem = f"it has {len(cells)} values: without a header it is name,refresh_token"
            return Unreadable(where=where, problem=problem)
