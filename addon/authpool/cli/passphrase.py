"""A passphrase for an export: from a private file, the environment, standard input, or a hidden prompt."""

import os
import re
import sys
from pathlib import Path

import click

from authpool.cli.streams import asks_a_person, read_secret
from authpool.errors import RefusedError
from authpool.files.home import read_secret_file

FEWEST_CHARACTERS = 12
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def passphrase_from(source: str, *, new: bool = False) -> str:
    """Read ``file:PATH`` (or ``@PATH``), ``env:NAME``, or ``-``; a `new` one must be long, and is asked for twice.

    Raises RefusedError. What was given is never repeated: it may be the passphrase.
    """
    text = _read(source, new=new).strip("\r\n")
    if not text:
        raise RefusedError("the passphrase is empty")
    if new and len(text) < FEWEST_CHARACTERS:
        raise RefusedError(
            f"the passphrase is too short: whoever has the file can try millions. Take {FEWEST_CHARACTERS} characters "
            "or more, better six random words"
        )
    return text


def _read(source: str, *, new: bool) -> str:
    kind, _, name = source.partition(":")
    if source == "-" and new and asks_a_person():
        return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True))
    if source == "-":
        return read_secret(prompt="Passphrase")
    if source.startswith("@"):
        return read_secret_file(Path(source[1:]).absolute())
    if kind == "file" and name:
        return read_secret_file(Path(name).absolute())
    if kind == "env" and _ENVIRONMENT_NAME.fullmatch(name):
        return os.environ.get(name, "")
    raise RefusedError(
        "a passphrase comes from file:PATH, env:NAME or - (standard input, or a prompt): one that is given as an "
        "argument is remembered by shells"
    )


def asked_passphrase() -> str:
    """Ask whoever sits at the terminal. Raises RefusedError where nobody does."""
    if not asks_a_person() or sys.stderr is None:
        raise RefusedError("is sealed: say where its passphrase is, with --passphrase")
    return str(click.prompt("Passphrase", hide_input=True, err=True))
