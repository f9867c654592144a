"""Standard input and output, however odd: closed, in another encoding, or of a terminal that knows few characters."""

import codecs
import io
import os
import sys

import click

from authpool.errors import RefusedError
from authpool.files.atomic_file import MAX_BYTES

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def prepare() -> None:
    """Let nothing we open take the place of a closed stream, and show what a terminal has no character for."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def answer(text: str) -> None:
    """Print what was asked for. Raises RefusedError where there is nowhere to print it."""
    if sys.stdout is None:
        raise RefusedError("standard output is closed, so there is nowhere to answer to: leave it open")
    click.echo(text)


def asks_a_person() -> bool:
    """Whether somebody at a terminal can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_secret(*, prompt: str = "Credential") -> str:
    """Ask for a secret without showing it, or read all of standard input. Raises RefusedError."""
    if sys.stdin is None:
        raise RefusedError("standard input is closed: send the credential there, or use @FILE or env:NAME")
    if sys.stdin.isatty():
        secret: str = click.prompt(prompt, hide_input=True, err=True)
        return secret
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise RefusedError("standard input is longer than 1 MiB; send one credential")
    if data.startswith(_UTF_16):
        raise RefusedError("standard input is UTF-16 text: save or send it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RefusedError("standard input is not UTF-8 text: send a credential as text, in UTF-8") from None


def as_text(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    """Read an argument as UTF-8, whatever the locale is, for names of accounts are. For click's `callback`."""
    if value is None:
        return None
    try:
        return os.fsencode(value).decode()
    except UnicodeError:
        pass
    try:
        return value.encode().decode()
    except UnicodeError:
        raise click.BadParameter("is not UTF-8 text") from None
