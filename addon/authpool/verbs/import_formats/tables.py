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
_PEM = "-----BEGIN "
_TOKENS = frozenset({_TOKEN, "secret", "access_token"})


def table_entries(text: str, origin: str) -> Iterator[Found]:
    """Read a table: ``name,refresh_token`` on each line, or named columns in any order under a header."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        return
    delimiter = next((one for one in _DELIMITERS if one in lines[0][1]), None)
    rows = [(f"{origin}, line {number}", _cells(line, delimiter)) for number, line in lines]
    first = rows[0][1]
    columns = None if first is None else _header(first)
    if columns is not None:
        yield from (_row(cells, columns, where) for where, cells in rows[1:])
        return
    found = [_row(cells, None, where) for where, cells in rows]
    if lines[0][1].startswith(_PEM) or 2 * sum(isinstance(one, Unreadable) for one in found) > max(len(found), 2):
        # What is presented is shown to the provider: no line of a program, a letter or a private key may be.
        yield Unreadable(where=origin, problem="it is no list of accounts: most of its lines are none")
        return
    yield from found


def _cells(line: str, delimiter: str | None) -> list[str] | None:
    if delimiter is None:
        return [line.strip()]
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
