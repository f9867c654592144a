"""`authpool accounts`: who is there and how they stand, filtered, sorted, counted, and fit to the terminal."""

import dataclasses
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import click

from authpool.accounts.printable import printable
from authpool.cli.account_verbs import as_texts
from authpool.cli.addresses import is_rich
from authpool.cli.columns import cell_len, cut
from authpool.cli.completion import complete_pools
from authpool.cli.session import Session, failures_told, json_option, table
from authpool.cli.streams import answer, as_text
from authpool.errors import RefusedError
from authpool.pool.pool import State
from authpool.verbs.account_rows import AccountRow
from authpool.verbs.account_table import HEADER, account_cells
from authpool.verbs.operations import Operations

_SHORTEST_NAME = 16
_COLOURS = {
    "ready": "green",
    "refreshing": "green",
    "cooling": "yellow",
    "paused": "blue",
    "disabled": "red",
    "broken": "red",
    "sealed": "red",
}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_LAST = float("inf")
_SORTS: Mapping[str, Callable[[AccountRow], tuple[object, ...]]] = {
    "name": lambda row: (row.name.casefold(), row.pool),
    "pool": lambda row: (row.pool, row.name.casefold()),
    "state": lambda row: (list(State).index(row.state), row.pool, row.name.casefold()),
    "since": lambda row: (_LAST if row.since is None else -row.since, row.pool, row.name.casefold()),
    "expires": lambda row: (_LAST if row.expires_at is None else row.expires_at, row.pool, row.name.casefold()),
}


@click.command()
@click.argument("text", required=False, callback=as_text)
@click.option("--pool", "pools", multiple=True, callback=as_texts, shell_complete=complete_pools, help="Of this pool.")
@click.option("--state", "states", multiple=True, type=click.Choice([str(state) for state in State]), help="In it.")
@click.option("--sort", type=click.Choice([*_SORTS]), default="pool", show_default=True, help="In which order.")
@click.option("--count", is_flag=True, help="How many there are, by pool and state.")
@json_option
@click.pass_obj
def accounts(
    session: Session,
    text: str | None,
    pools: tuple[str, ...],
    states: tuple[str, ...],
    sort: str,
    count: bool,  # noqa: FBT001 - click passes it by name
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show every account, or those with TEXT in their name.

    On a terminal names and reasons are shortened to fit and times are told from now; elsewhere, and with --json, they
    are whole and exact.
    """
    with failures_told(as_json=as_json):
        rows = session.run(Operations.accounts)
        unknown = set(pools) - {row.pool for row in rows}
        if unknown and (unknown := unknown - set(session.pool_names())):
            raise RefusedError(f"there is no pool {printable(min(unknown))}", error_code="unknown_pool")
        chosen = sorted(filtered(rows, text or "", pools, states), key=_SORTS[sort])
        if count:
            _count(chosen, as_json=as_json)
        elif as_json:
            answer(json.dumps([dataclasses.asdict(row) for row in chosen], indent=2))
        elif not rows:
            answer("No accounts yet; add one with: authpool login POOL, or authpool add POOL SOURCE")
        elif not chosen:
            answer(f"None of the {len(rows)} accounts is like that")
        elif sys.stdout is not None and sys.stdout.isatty():
            answer(
                fitted(chosen, shutil.get_terminal_size().columns, time.time(), rich=is_rich(sys.stdout, os.environ))
            )
        else:
            answer(table(HEADER, [account_cells(row) for row in chosen]))


def filtered(rows: Sequence[AccountRow], text: str, pools: Sequence[str], states: Sequence[str]) -> list[AccountRow]:
    """The accounts with the text in their name, of one of the pools and in one of the states, where any are given.

    A text with a slash in it is looked for in ``POOL/NAME``.
    """
    wanted, whole = text.casefold(), "/" in text
    return [
        row
        for row in rows
        if wanted in (f"{row.pool}/{row.name}" if whole else row.name).casefold()
        and (not pools or row.pool in pools)
        and (not states or row.state in states)
    ]


def _count(rows: Sequence[AccountRow], *, as_json: bool) -> None:
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row.pool, Counter())[str(row.state)] += 1
    if as_json:
        answer(json.dumps({"total": len(rows), "pools": counts}, indent=2))
        return
    states = [str(state) for state in State if any(counted[str(state)] for counted in counts.values())]
    lines = [
        (pool, *(str(counted[state] or "") for state in states), str(counted.total()))
        for pool, counted in sorted(counts.items())
    ]
    answer(table(("POOL", *map(str.upper, states), "ALL"), [*lines, _total(counts, states)]))


def _total(counts: Mapping[str, Counter[str]], states: Sequence[str]) -> tuple[str, ...]:
    together: Counter[str] = sum(counts.values(), Counter())
    return "all", *(str(together[state]) for state in states), str(together.total())


# --- for a terminal -----------------------------------------------------------------------------------------------


def fitted(rows: Sequence[AccountRow], width: int, now: float, *, rich: bool) -> str:
    """The table, at most `width` columns wide; `now` is Unix seconds, `rich` with colours."""
    cells = [_cells(row, now) for row in rows]
    columns = [index for index in range(len(HEADER)) if any(row[index] for row in cells) or index < 3]
    header = [HEADER[index] for index in columns]
    shown = [[row[index] or "-" for index in columns] for row in cells]
    widths = [max(cell_len(row[column]) for row in (header, *shown)) for column in range(len(columns))]
    _narrow(header, widths, width)
    lines = [_line(header, widths), *(_line(row, widths, rich=rich) for row in shown)]
    return "\n".join(lines)


def _cells(row: AccountRow, now: float) -> tuple[str, ...]:
    reason = row.reason if row.until is None else f"{row.reason} (for {span(row.until - now)})"
    since = "" if row.since is None else f"{span(now - row.since)} ago"
    expires = "" if row.expires_at is None else span(row.expires_at - now) if row.expires_at > now else "over"
    served = "" if row.served is None else str(row.served)
    return row.pool, printable(row.name), str(row.state), since, expires, served, printable(reason)


def span(seconds: float) -> str:
    """A span of time in its largest unit, as ``3 h``."""
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{max(0, int(seconds))} s"


def _narrow(header: Sequence[str], widths: list[int], width: int) -> None:
    """Take from the reason first, then from the names, what is too wide."""
    third = width // 3
    least_of = (("REASON", third), ("NAME", max(_SHORTEST_NAME, third)), ("REASON", 12), ("NAME", _SHORTEST_NAME))
    for column, least in (*least_of, ("REASON", 1)):
        if column in header:
            index = header.index(column)
            excess = sum(widths) + 2 * (len(widths) - 1) - width
            widths[index] = max(min(least, widths[index]), widths[index] - max(0, excess))


def _line(row: Sequence[str], widths: Sequence[int], *, rich: bool = False) -> str:
    cells = []
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        short = middle_cut(cell, width) if index == 1 else end_cut(cell, width)
        padded = short + " " * (width - cell_len(short))
        colour = _COLOURS.get(cell) if rich and index == 2 else None
        cells.append(click.style(padded, fg=colour) if colour else padded)
    return "  ".join(cells).rstrip()


def middle_cut(text: str, width: int) -> str:
    """Cut a name in its middle: its beginning and its end tell it from others."""
    if cell_len(text) <= width:
        return text
    before = (width - 1) // 2
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > width - 1 - before:
            break
        tail = character + tail
    return f"{cut(text, before).rstrip()}…{tail}"


def end_cut(text: str, width: int) -> str:
    """Cut what is too long for its column."""
    return text if cell_len(text) <= width else f"{cut(text, max(0, width - 1)).rstrip()}…"
