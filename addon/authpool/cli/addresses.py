"""Addresses and codes as a terminal shows them: clickable, large, or as a QR code."""

import importlib
import io
import os
from collections.abc import Mapping
from typing import TextIO

from authpool.accounts.printable import printable
from authpool.errors import RefusedError

_FRAME, _ASCII_FRAME = "─│┌┐└┘", "-|++++"


def is_rich(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `out` is a terminal that understands escape sequences, and that is to be sent them."""
    return out.isatty() and environ.get("TERM", "dumb") != "dumb" and not environ.get("NO_COLOR")


def clickable(url: str, *, rich: bool) -> str:
    """The address, as a link where the terminal knows links (OSC 8)."""
    shown = printable(url)
    return f"\x1b]8;;{shown}\x1b\\{shown}\x1b]8;;\x1b\\" if rich else shown


def large(code: str, *, rich: bool, encoding: str | None = "utf-8") -> str:
    """A code that somebody reads here and types there: in a frame, its characters apart."""
    spaced = " ".join(printable(code))
    horizontal, vertical, *corners = tuple(_FRAME if _can_show(_FRAME, encoding) else _ASCII_FRAME)
    line = horizontal * (len(spaced) + 6)
    shown = f"\x1b[1m{spaced}\x1b[22m" if rich else spaced
    above, below = f"{corners[0]}{line}{corners[1]}", f"{corners[2]}{line}{corners[3]}"
    return f"  {above}\n  {vertical}   {shown}   {vertical}\n  {below}"


def qr_code(url: str) -> str:
    """The address as a QR code, in characters. Raises RefusedError where there is none, or no library for it."""
    try:
        segno = importlib.import_module("segno")
    except ModuleNotFoundError:
        raise RefusedError("--qr needs the library segno: pip install 'authpool[qr]'") from None
    drawn = io.StringIO()
    try:
        segno.make(url, error="l", micro=False).terminal(out=drawn, compact=True, border=2)
    except ValueError:
        raise RefusedError("the address is too long for a QR code") from None
    return drawn.getvalue().rstrip("\n")


def qr_code_on(out: TextIO, url: str) -> str:
    """The address as a QR code that can be read off `out`. Raises RefusedError saying why it can't be."""
    if not out.isatty():
        raise RefusedError("standard error is no terminal")
    drawn = qr_code(url)
    if not _can_show(drawn, out.encoding):
        raise RefusedError("the terminal's character set has no blocks to draw with")
    width, columns = max(map(len, drawn.splitlines())), _columns(out)
    if columns is not None and columns < width:
        raise RefusedError(f"it is {width} columns wide, and the terminal has {columns}")
    return drawn


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _columns(out: TextIO) -> int | None:
    """How wide the terminal is; None where it does not tell."""
    try:
        return os.get_terminal_size(out.fileno()).columns or None
    except (OSError, ValueError):
        return None
