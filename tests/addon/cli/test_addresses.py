"""Addresses and codes, as terminals of several kinds show them."""

import io
import os
import pty
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from authpool.cli.addresses import clickable, is_rich, large, qr_code, qr_code_on
from authpool.cli.login import Terminal
from authpool.errors import RefusedError
from authpool.oauth.device_authorization import DeviceCode

URL = "https://example.com/device?user_code=WDJB-MJHT"
CODE = DeviceCode(
    device_code="d", user_code="WDJB-MJHT", url="https://example.com/device", lifetime_seconds=9, interval_seconds=5
)


@contextmanager
def terminal(columns: int = 120, encoding: str = "utf-8") -> Iterator[TextIO]:
    """A real one, of that width."""
    master, slave = pty.openpty()
    try:
        with open(slave, "w", encoding=encoding, errors="backslashreplace") as out:  # noqa: PTH123
            termios.tcsetwinsize(slave, (40, columns))
            yield out
    finally:
        os.close(master)


class Screen(io.StringIO):
    """A terminal that keeps what is written, and does not tell its size."""

    def isatty(self) -> bool:
        return True

    encoding = "utf-8"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("environ", "rich"),
    (
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
    ),
)
def test_escapes_go_to_terminals_that_want_them(environ: dict[str, str], *, rich: bool) -> None:
    """And never into a file or a pipe."""
    assert is_rich(Screen(), environ) is rich
    assert not is_rich(io.StringIO(), environ)


def test_a_link_is_the_address_itself_and_nothing_in_it_is_obeyed() -> None:
    """OSC 8, with the text that it leads to; an escape in an address ends up as a replacement character."""
    assert clickable(URL, rich=False) == URL
    assert clickable(URL, rich=True) == f"\x1b]8;;{URL}\x1b\\{URL}\x1b]8;;\x1b\\"
    assert clickable("https://e\x1b]8;;x", rich=False) == "https://e\ufffd]8;;x"


@pytest.mark.parametrize(
    ("encoding", "middle"),
    (
        ("utf-8", "│   W D J B   │"),
        ("ascii", "|   W D J B   |"),
        ("iso-8859-1", "|   W D J B   |"),
        (None, "|   W D J B   |"),
    ),
)
def test_the_code_is_readable_in_any_character_set(encoding: str | None, middle: str) -> None:
    """Without a frame of escapes around it."""
    shown = large("WDJB", rich=False, encoding=encoding)
    assert shown.splitlines()[1].strip() == middle
    assert len({len(line) for line in shown.splitlines()}) == 1
    shown.encode(encoding or "ascii")


def test_a_qr_code_is_drawn_where_it_fits() -> None:
    """It is the address that a phone reads: the drawing is the library's own."""
    with terminal() as out:
        drawn = qr_code_on(out, URL)
    assert drawn == qr_code(URL)
    assert len(drawn.splitlines()) > 10


def test_why_no_qr_code_is_drawn() -> None:
    """Rather than one that no camera reads."""
    with pytest.raises(RefusedError, match="no terminal"):
        qr_code_on(io.StringIO(), URL)
    with terminal(columns=20) as out, pytest.raises(RefusedError, match=r"33 columns wide, and the terminal has 20"):
        qr_code_on(out, URL)
    with terminal(encoding="ascii") as out, pytest.raises(RefusedError, match="no blocks"):
        qr_code_on(out, URL)
    with terminal() as out, pytest.raises(RefusedError, match="too long"):
        qr_code_on(out, URL + "x" * 3000)


def test_what_can_not_be_drawn_ends_no_sign_in() -> None:
    """The address is there, and the code."""
    out = io.StringIO()
    Terminal(browser=False, timeout_seconds=9, qr=True, out=out).show_code(CODE)
    lines = out.getvalue().splitlines()
    assert lines[1:3] == ["https://example.com/device", "No QR code: standard error is no terminal."]
    assert "W D J B - M J H T" in lines[5]
