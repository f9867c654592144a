"""`authpool export`: the accounts of a pool in one file, for another home or for a safe."""

import os
import stat
import sys
from pathlib import Path

import click

from authpool.cli.passphrase import passphrase_from
from authpool.cli.session import Session, failures_told, tell
from authpool.cli.streams import as_text
from authpool.errors import RefusedError
from authpool.verbs.import_formats.sealed_text import seal_text

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@click.command()
@click.argument("pool", callback=as_text)
@click.option("--to", "path", type=click.Path(path_type=Path), metavar="PATH", help="A new file. Default: a pipe.")
@click.option("--plain", is_flag=True, help="A list with every secret in it.")
@click.option("--passphrase", "source", metavar="SOURCE", help="Sealed: file:PATH, env:NAME or - for a prompt.")
@click.option("--json", "as_json", is_flag=True, help="Answer JSON, for scripts; with --to.")
@click.pass_obj
def export(session: Session, pool: str, path: Path | None, plain: bool, source: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes them by name
    """Export the accounts of POOL, for authpool import.

    The list is a second copy of every credential: with a provider that rotates refresh tokens only one of the two can
    go on, and the other ends the grant.
    """
    if plain == (source is not None):
        raise click.UsageError("say either --plain or --passphrase SOURCE")
    if as_json and path is None:
        raise click.UsageError("--json goes with --to PATH: standard output has the list otherwise")
    with failures_told(as_json=as_json):
        _check_output(path, plain=plain)
        passphrase = None if source is None else passphrase_from(source, new=True)
        how = "in plain" if passphrase is None else "sealed with a passphrase"
        exported = session.run(lambda operations: operations.exporting.export(pool, how))
        text = exported.text if passphrase is None else seal_text(exported.text, passphrase)
        _write(path, text)
        accounts = "1 account" if exported.accounts == 1 else f"{exported.accounts} accounts"
        message = f"Exported {accounts} of {pool}, {how}, to {path or 'standard output'}"
        left = f"can't be read, and are not in it: {', '.join(exported.unreadable)}" if exported.unreadable else ""
        if path is not None:
            tell(message, as_json=as_json, more={"accounts": exported.accounts, "path": str(path)}, error=left)
            return
        click.echo(f"authpool: {left or message}", err=True)
        if left:
            raise SystemExit(1)


def _check_output(path: Path | None, *, plain: bool) -> None:
    """Before anything is read: see that nobody else could read it there. Raises RefusedError."""
    if path is not None:
        if os.path.lexists(path):
            raise RefusedError(f"{path} is there already: give a name that is free")
        return
    if sys.stdout is None:
        raise RefusedError("standard output is closed: send it into a pipe, or use --to PATH")
    status = os.fstat(sys.stdout.fileno())
    if plain and sys.stdout.isatty():
        raise RefusedError("secrets are not shown on a terminal: send them into a pipe, or use --to PATH")
    if plain and stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise RefusedError("standard output is a file that others can read: use --to PATH, which makes a private one")


def _write(path: Path | None, text: str) -> None:
    if path is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    descriptor = os.open(path, _NEW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
