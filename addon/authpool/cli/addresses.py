"""Addresses and codes as a terminal shows them: clickable, large, or as a QR code."""

import importlib
import io
from collections.abc import Mapping
from typing import TextIO

from authpool.accounts.printable import printable
from authpool.errors import RefusedError


def is_rich(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `out` is a terminal that understands escape sequences."""
    return out.isatty() and environ.get("TERM", "dumb") != "dumb"


def clickable(url: str, *, rich: bool) -> str:
    """The address, as a link where the terminal knows links (OSC 8)."""
    shown = printable(url)
    return f"\x1b]8;;{shown}\x1b\\{shown}\x1b]8;;\x1b\\" if rich else shown


def large(code: str, *, rich: bool) -> str:
    """A code that somebody reads here and types there: in a frame, its characters apart."""
    spaced = " ".join(printable(code))
    line = "─" * (len(spaced) + 6)
    shown = f"\x1b[1m{spaced}\x1b[22m" if rich else spaced
    return f"  ┌{line}┐\n  │   {shown}   │\n  └{line}┘"


def qr_code(url: str) -> str:
    """The address as a QR code, in characters. Raises RefusedError where the library for it is not installed."""
    try:
        segno = importlib.import_module("segno")
    except ModuleNotFoundError:
        raise RefusedError("--qr needs the library segno: pip install 'authpool[qr]'") from None
    drawn = io.StringIO()
    segno.make(url, error="l", micro=False).terminal(out=drawn, compact=True, border=2)
    return drawn.getvalue().rstrip("\n")
