"""`authpool import`: many accounts at once, with a bar that shows how far it is, and a table at the end."""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import click

from authpool.accounts.printable import printable
from authpool.cli.passphrase import asked_passphrase, passphrase_from
from authpool.cli.progress import bar
from authpool.cli.session import Session, failures_told, json_option, table, tell
from authpool.cli.streams import as_text, read_secret
from authpool.errors import RefusedError
from authpool.verbs.import_formats.entry import Found
from authpool.verbs.import_formats.paths import MOST_BYTES, Opener, path_entries
from authpool.verbs.import_formats.sealed_text import open_text
from authpool.verbs.import_formats.texts import text_entries
from authpool.verbs.import_report import EntryOutcome, ImportReport
from authpool.verbs.importing import JOBS, ImportOptions, Progress

LINE_SECONDS = 5.0
"""Where standard error is no terminal, a line tells so often how far it is."""
SHOWN = 20
"""So many entries that need somebody's attention are shown; all are in the JSON."""
_ATTENTION = frozenset({"failed", "left out", "added as disabled"})


@click.command("import")
@click.option("--pool", required=True, metavar="POOL", callback=as_text, help="The pool that they go into.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Tell what would happen; nobody is asked, and nothing is written.")
@click.option("--jobs", type=click.IntRange(1, 64), default=JOBS, show_default=True, help="Proofs at a time.")
@click.option("--prove-disabled", is_flag=True, help="Prove also what the source says is disabled.")
@click.option("--passphrase", "source", metavar="SOURCE", help="For what is sealed: file:PATH, env:NAME or -.")
@json_option
@click.pass_obj
def import_(
    session: Session,
    pool: str,
    paths: tuple[Path, ...],
    dry_run: bool,  # noqa: FBT001 - click passes it by name
    jobs: int,
    prove_disabled: bool,  # noqa: FBT001
    source: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Import many accounts into POOL.

    A PATH is a file, a folder, or - for standard input: Antigravity Manager's data folder or export list, Google
    authorized_user JSON, token responses, one or a list, CSV or TSV (name,refresh_token), JSON lines, and files of
    other tools. Each is proved with a refresh first, as by add. Interrupted, or run again, it goes on where it was.
    """
    options = ImportOptions(jobs=jobs, dry_run=dry_run, prove_disabled=prove_disabled)
    with failures_told(as_json=as_json):
        passphrase = cache(asked_passphrase if source is None else partial(passphrase_from, source))
        opened = partial(open_text, passphrase=passphrase)
        found = [one for path in paths for one in _entries(path, opened)]
        with _progress() as progress:
            report = session.run(
                lambda operations: operations.importing.run(pool, found, options, progress), reminded=False
            )
        more = {
            "pool": report.pool,
            "dry_run": report.dry_run,
            "counts": report.counts,
            "entries": [dataclasses.asdict(one) for one in report.outcomes],
        }
        tell(_told(report, as_json=as_json), as_json=as_json, more=more, error=printable(report.trouble))


def _entries(path: Path, opened: Opener) -> Iterator[Found]:
    """What a PATH holds; ``-`` is standard input. Raises RefusedError."""
    if str(path) != "-":
        return path_entries(path.absolute(), opened)
    text = read_secret(most=MOST_BYTES, whole="one list")
    try:
        return text_entries(opened(text), "standard input")
    except RefusedError as refused:
        raise RefusedError(f"standard input {refused}") from None


def _told(report: ImportReport, *, as_json: bool) -> str:
    what = f"{len(report.outcomes)} entries" if len(report.outcomes) != 1 else "1 entry"
    first = f"{'Would import' if report.dry_run else 'Imported'} into {report.pool}: {what}"
    if as_json:
        return first
    rows = [(kind, str(number)) for kind, number in report.counts.items()]
    lines = [first, *([table(("RESULT", "ENTRIES"), rows)] if rows else [])]
    shown = report.outcomes if report.dry_run else [one for one in report.outcomes if one.kind in _ATTENTION]
    if shown:
        lines += ["", table(("RESULT", "ACCOUNT", "SOURCE", "WHY"), [_cells(one) for one in shown[:SHOWN]])]
    if len(shown) > SHOWN:
        lines.append(f"and {len(shown) - SHOWN} more; --json tells all")
    return "\n".join(lines)


def _cells(one: EntryOutcome) -> Sequence[str]:
    return one.kind, printable(one.account or ""), printable(one.where), printable(one.detail)


@contextmanager
def _progress() -> Iterator[Progress]:
    """On standard error: a bar on a terminal, else a line now and then."""
    if sys.stderr is None:
        yield lambda done, of, waiting: None
    elif sys.stderr.isatty():
        with bar("Importing") as progress:
            yield progress
    else:
        yield _lines()


def _lines() -> Progress:
    last = time.monotonic()

    def progress(done: int, of: int, waiting: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            click.echo(f"authpool: {done} of {of} entries{f'; {waiting}' if waiting else ''}", err=True)

    return progress
