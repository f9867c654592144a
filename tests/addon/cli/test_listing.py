"""The table of accounts: filtered, sorted, counted, and fit to a terminal."""

import asyncio
import fcntl
import json
import os
import pty
import struct
import sys
import termios
from pathlib import Path

import pytest

from authpool.cli.columns import cell_len
from authpool.cli.listing import filtered, fitted, middle_cut, span
from authpool.pool.pool import State
from authpool.verbs.account_rows import AccountRow
from support.command_line import SOURCES, authpool_on
from support.operator import Desk, open_desk

NOW = 1_800_000_000.0


def row(name: str, state: State = State.READY, pool: str = "google", reason: str = "", **times: int) -> AccountRow:
    fields: dict[str, int | None] = {"since": None, "until": None, "expires_at": None, "served": None, **times}
    return AccountRow(pool=pool, name=name, state=state, reason=reason, **fields)


ROWS = [
    row("alice@example.com", expires_at=int(NOW) + 3_000),
    row("bob@example.com", State.DISABLED, reason="invalid_grant: revoked", since=int(NOW) - 90_000),
    row("carol@example.com", State.COOLING, pool="team", reason="429", until=int(NOW) + 90),
]


@pytest.mark.parametrize(
    ("text", "pools", "states", "names"),
    (
        ("", (), (), "abc"),
        ("ALICE", (), (), "a"),
        ("", ("team",), (), "c"),
        ("", (), ("disabled", "cooling"), "bc"),
        ("example", ("google",), ("ready",), "a"),
        ("nobody", (), (), ""),
        ("google", (), (), ""),
        ("Google/a", (), (), "a"),
        ("e/bob", (), (), "b"),
    ),
)
def test_accounts_are_filtered(text: str, pools: tuple[str, ...], states: tuple[str, ...], names: str) -> None:
    """By a part of the name, by pool, by state: each narrows."""
    assert "".join(one.name[0] for one in filtered(ROWS, text, pools, states)) == names


@pytest.mark.parametrize("width", (40, 60, 80, 120, 200))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Wide characters count twice; a bidirectional control is shown as what can't be shown."""
    rows = [*ROWS, row("日本語の名前" * 6, reason="理由" * 40), row("evil\u202egnp.exe@example.com", reason="x" * 500)]
    table = fitted(rows, width, NOW, rich=False)
    assert max(cell_len(line) for line in table.splitlines()) <= max(width, 56)
    assert "\u202e" not in table


def test_names_are_cut_in_their_middle() -> None:
    """Beginning and end tell them apart."""
    assert middle_cut("alice.smith@subdomain.example.com", 21) == "alice.smit…xample.com"
    assert middle_cut("short", 21) == "short"
    assert cell_len(middle_cut("日本語の長い名前のアカウント", 11)) <= 11


@pytest.mark.parametrize(
    ("seconds", "told"), ((0, "0 s"), (-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_600, "1 h"), (200_000, "2 d"))
)
def test_spans(seconds: float, told: str) -> None:
    """In the largest unit that is whole."""
    assert span(seconds) == told


async def on_a_terminal(desk: Desk, *arguments: str, columns: int = 100, env: dict[str, str] | None = None) -> str:
    """Run it with a pseudo-terminal for its standard output; answers what that shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", "--home", str(desk.home), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=theirs,
        env={**kept, "PYTHONPATH": SOURCES, "TERM": "xterm", **(env or {})},
    )
    os.close(theirs)
    shown = await asyncio.to_thread(_read_all, ours)
    assert await process.wait() == 0
    return shown


def _read_all(descriptor: int) -> str:
    shown = b""
    try:
        while data := os.read(descriptor, 65536):
            shown += data
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(descriptor)
    return shown.decode()


async def test_on_a_terminal_it_fits_and_has_colours(tmp_path: Path) -> None:
    """None with NO_COLOR, or where the terminal is dumb; elsewhere it is whole, exact and plain."""
    async with open_desk(tmp_path) as desk:
        name = f"{'very-' * 30}long@example.com"
        desk.write(f"google/{name}", token={"expires_at": 2_000_000_000})
        shown = await on_a_terminal(desk, "accounts")
        assert "\x1b[32mready" in shown
        assert "…" in shown
        assert name not in shown
        for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            assert "\x1b" not in await on_a_terminal(desk, "accounts", env=env)
        plain = await authpool_on(desk.home, "accounts")
        assert name in plain.out
        assert "2033-05-18T03:33:20Z" in plain.out
        assert "\x1b" not in plain.out


async def test_it_counts_and_sorts(tmp_path: Path) -> None:
    """By pool and state; by name, by what ends first."""
    async with open_desk(tmp_path, more_pools=("team",)) as desk:
        desk.write("team/a", token={"expires_at": 2_000_000_002})
        desk.write("google/b", token={"expires_at": 2_000_000_001}, disabled=True, disabled_reason="dead")
        desk.write("google/c", token={"expires_at": 2_000_000_003})
        counted = await authpool_on(desk.home, "accounts", "--count")
        assert [line.split() for line in counted.out.splitlines()] == [
            ["POOL", "READY", "DISABLED", "ALL"],
            ["google", "1", "1", "2"],
            ["team", "1", "-", "1"],
            ["all", "2", "1", "3"],
        ]
        assert json.loads((await authpool_on(desk.home, "accounts", "--count", "--json")).out) == {
            "total": 3,
            "pools": {"google": {"ready": 1, "disabled": 1}, "team": {"ready": 1}},
        }
        for sort, names in (("name", "abc"), ("pool", "bca"), ("expires", "bac"), ("state", "cab")):
            rows = json.loads((await authpool_on(desk.home, "accounts", "--sort", sort, "--json")).out)
            assert "".join(one["name"] for one in rows) == names, sort


async def test_a_pool_that_there_is_not(tmp_path: Path) -> None:
    """Is told, rather than shown as empty."""
    async with open_desk(tmp_path) as desk:
        ended = await authpool_on(desk.home, "accounts", "--pool", "goggle", "--json")
        assert (ended.status, json.loads(ended.out)["code"]) == (1, "unknown_pool")
