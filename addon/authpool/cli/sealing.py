"""`authpool seal`, `unseal` and `rekey`, with a bar that shows how far they are."""

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import click

from authpool.cli.progress import bar
from authpool.cli.reloading import reload_gateways
from authpool.cli.session import Session, failures_told, json_option, tell
from authpool.config.seal_key import SealKey, seal_key
from authpool.errors import ConfigurationError, RefusedError
from authpool.gateway.presence import neighbours
from authpool.verbs.operations import Operations
from authpool.verbs.sealing import Progress, Sealed


@click.command()
@json_option
@click.pass_obj
def seal(session: Session, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Seal every secret in the home with the key that authpool.toml names, and all that is written from now on.

    Gateways that run get that key first. Interrupted, it goes on where it was when it is run again.
    """
    with failures_told(as_json=as_json):
        _hand_key_to_gateways(session)
        _carry_out(session, "Sealing", lambda all_, progress: all_.sealing.seal(progress), as_json=as_json)


@click.command()
@json_option
@click.pass_obj
def unseal(session: Session, as_json: bool) -> None:  # noqa: FBT001
    """Write every secret in the home in plain, and seal none from now on.

    Interrupted, it goes on where it was when it is run again.
    """
    with failures_told(as_json=as_json):
        _carry_out(session, "Unsealing", lambda all_, progress: all_.sealing.unseal(progress), as_json=as_json)


@click.command()
@click.option("--to", "source", metavar="KEY", help="Another operator's key: env:NAME, file:PATH or keyring:NAME.")
@click.option("--data-key", is_flag=True, help="A new data key, and everything sealed anew with it.")
@json_option
@click.pass_obj
def rekey(session: Session, source: str | None, data_key: bool, as_json: bool) -> None:  # noqa: FBT001
    """Change the keys: --to lets another operator's key open the accounts, too.

    Without an option, the key that authpool.toml names is the only one from now on.
    """
    with failures_told(as_json=as_json):
        to = None if source is None else _new_key(session, source)
        if to is None:
            _hand_key_to_gateways(session)

        def work(operations: Operations, progress: Progress) -> Coroutine[Any, Any, Sealed]:
            return operations.sealing.rekey(to, data_key=data_key, progress=progress)

        _carry_out(session, "Sealing anew", work, as_json=as_json)


def _new_key(session: Session, source: str) -> SealKey:
    try:
        key = seal_key(source, session.home, os.environ)
        key.resolve()
    except ConfigurationError as error:
        raise RefusedError(f"--to {error.problem} {error.remedy}") from None
    return key


def _carry_out(
    session: Session,
    label: str,
    work: Callable[[Operations, Progress], Coroutine[Any, Any, Sealed]],
    *,
    as_json: bool,
) -> None:
    with _progress(label, shown=not as_json and sys.stderr is not None and sys.stderr.isatty()) as progress:
        done = session.run(lambda operations: work(operations, progress))
    rewriting = done.rewriting
    more = {"written": rewriting.written, "unchanged": rewriting.as_they_were, "unreadable": rewriting.unreadable}
    error = f"can't be read, and stay as they are: {', '.join(rewriting.unreadable)}" if rewriting.unreadable else ""
    tell(done.message, as_json=as_json, more=more, error=error)


@contextmanager
def _progress(label: str, *, shown: bool) -> Iterator[Progress]:
    """A bar on standard error, for people; begun when it is known how long it will be."""
    if not shown:
        yield lambda done, of: None
        return
    with bar(label) as progress:
        yield lambda done, of: progress(done, of, "")


def _hand_key_to_gateways(session: Session) -> None:
    """Let every gateway that runs take the configured key in. Raises RefusedError where one can't.

    It would be left with accounts that it can't open.
    """
    ours = session.run(lambda operations: operations.sealing.fingerprint())
    outcomes = reload_gateways(session.home, lambda: session.run(Operations.request_reload))
    failed = [str(one) for one in outcomes if one.failed]
    if not failed:
        failed = [
            f"gateway {one.pid} has another key than this shell (fingerprint {one.reloaded.seal_key or 'none'}, not "
            f"{ours}): start it anew where its environment has the same"
            for one in neighbours(session.home)
            if one.reloaded is not None and one.reloaded.seal_key != ours
        ]
    if failed:
        raise RefusedError(f"nothing is changed, for a gateway could not take the key in: {'; '.join(failed)}")
