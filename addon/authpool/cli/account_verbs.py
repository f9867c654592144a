"""Verbs on one account, several, or all of a pool: asked about first, and answered one by one."""

import json
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from authpool.accounts.printable import printable
from authpool.cli.completion import complete_accounts, complete_pools
from authpool.cli.session import Session, failures_told, json_option, tell
from authpool.cli.streams import as_text, asks_a_person, read_secret
from authpool.errors import AuthpoolError, RefusedError
from authpool.verbs.operations import Operations
from authpool.verbs.several import AT_ONCE, InterruptedVerbError, Outcome, each, is_pattern
from authpool.verbs.sources import Credential, read_source

SHOWN = 10
"""So many accounts are named in a question."""

type Verb = Callable[[Operations, str], Coroutine[Any, Any, str]]

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def as_texts(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Read arguments as UTF-8, as `as_text`."""
    return tuple(as_text(context, parameter, value) or "" for value in values)


def accounts_argument(metavar: str = "POOL/NAME...") -> Callable[..., Callable[..., object]]:
    """One account or several; ``POOL/*`` is all of a pool."""
    return click.argument(
        "accounts", metavar=metavar, nargs=-1, required=True, callback=as_texts, shell_complete=complete_accounts
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """A verb on several accounts: what it is called in a question, and how many are worked on at once."""

    session: Session
    doing: str
    yes: bool
    as_json: bool
    always_asks: bool = False
    at_once: int = AT_ONCE

    def carry_out(self, addresses: Sequence[str], verb: Verb, *, of_several: Verb | None = None) -> None:
        """Find out which accounts are meant, ask, and tell how each of them ended.

        `of_several`: the verb for one of several, where it is another then.
        """
        with failures_told(as_json=self.as_json):
            if len(addresses) == 1 and not is_pattern(addresses[0]):
                if self.always_asks:
                    self._ask(addresses)
                tell(self.session.run(lambda operations: verb(operations, addresses[0])), as_json=self.as_json)
                return
            found = self.session.run(lambda operations: operations.matching(addresses))
            self.carry_out_each(found, of_several or verb)

    def carry_out_each(self, addresses: Sequence[str], verb: Verb) -> None:
        """The same where it is known which are meant; each is told as it ends. Raises AuthpoolError."""
        if len(addresses) > 1 or self.always_asks:
            self._ask(addresses)
        teller = Teller(as_json=self.as_json)

        async def run(operations: Operations) -> list[Outcome]:
            return await each(addresses, lambda one: verb(operations, one), at_once=self.at_once, heard=teller.hear)

        try:
            outcomes, trouble = self.session.run(run, reminded=len(addresses) <= self.at_once), ""
        except InterruptedVerbError as interrupted:
            outcomes, trouble = list(interrupted.outcomes), str(interrupted)
        teller.end(outcomes, trouble)

    def _ask(self, addresses: Sequence[str]) -> None:
        """Raises RefusedError where nobody can be asked, and Abort when the answer is no."""
        if self.yes:
            return
        many = addresses[0] if len(addresses) == 1 else f"{len(addresses)} accounts"
        if self.as_json or not asks_a_person():
            raise RefusedError(f"nobody can be asked whether to {self.doing} {many}: say --yes", error_code="not_asked")
        if len(addresses) > 1:
            for address in addresses[:SHOWN]:
                click.echo(f"  {printable(address)}", err=True)
            if len(addresses) > SHOWN:
                click.echo(f"  and {len(addresses) - SHOWN} more", err=True)
        click.confirm(f"{self.doing.capitalize()} {printable(many)}?", abort=True, err=True)


class Teller:
    """Tells people of each account as it ends, and scripts of all of them in the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._broken: BrokenPipeError | None = None

    def hear(self, outcome: Outcome) -> None:
        """One account has ended."""
        if self._as_json or self._broken is not None:
            return
        try:
            told = printable(str(outcome))
            click.echo(told if outcome.error is None else f"authpool: {told}", err=outcome.error is not None)
        except BrokenPipeError as error:  # whoever read has seen enough; the accounts are worked on all the same
            self._broken = error

    def end(self, outcomes: Sequence[Outcome], trouble: str = "") -> None:
        """All have ended: exit status 1 when one failed, or when there was `trouble` with all of them."""
        if self._broken is not None:
            raise self._broken
        failed = sum(one.error is not None for one in outcomes)
        error = trouble or (f"{failed} of {len(outcomes)} failed" if failed else "")
        if self._as_json:
            code = {"code": "interrupted" if trouble else "some_failed", "error": error} if error else {}
            done = f"{len(outcomes) - failed} of {len(outcomes)} done"
            accounts = [_as_document(one) for one in outcomes]
            click.echo(json.dumps({"ok": not error, "message": done, **code, "accounts": accounts}))
        elif error:
            click.echo(f"authpool: {error}", err=True)
        if error:
            raise SystemExit(1)


def _as_document(one: Outcome) -> dict[str, object]:
    if one.error is None:
        return {"account": one.account, "ok": True, "message": printable(one.message)}
    error = printable(str(one.error))
    return {"account": one.account, "ok": False, "error": error, "code": one.error.error_code}


# --- the verbs ----------------------------------------------------------------------------------------------------


@click.command()
@accounts_argument()
@yes_option
@json_option
@click.pass_obj
def pause(session: Session, accounts: tuple[str, ...], yes: bool, as_json: bool) -> None:  # noqa: FBT001 - as click does
    """Let accounts serve nothing until they are resumed. POOL/* is all of a pool."""
    Several(session=session, doing="pause", yes=yes, as_json=as_json).carry_out(accounts, Operations.pause)


@click.command()
@accounts_argument("POOL[/NAME]...")
@yes_option
@json_option
@click.pass_obj
def resume(session: Session, accounts: tuple[str, ...], yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Let paused accounts serve again; POOL alone: trust its client again after a storm of rejections."""
    Several(session=session, doing="resume", yes=yes, as_json=as_json).carry_out(accounts, Operations.resume)


@click.command()
@accounts_argument()
@yes_option
@json_option
@click.pass_obj
def refresh(session: Session, accounts: tuple[str, ...], yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Fetch new access tokens now."""
    Several(session=session, doing="refresh", yes=yes, as_json=as_json).carry_out(
        accounts, Operations.refresh, of_several=partial(Operations.refresh, one_of_several=True)
    )


@click.command()
@accounts_argument()
@click.option("--force", is_flag=True, help="Without a refresh first, for who knows that the credential still works.")
@yes_option
@json_option
@click.pass_obj
def enable(session: Session, accounts: tuple[str, ...], force: bool, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Take disabled accounts back, where a refresh succeeds."""
    Several(session=session, doing="enable", yes=yes, as_json=as_json).carry_out(
        accounts,
        partial(Operations.enable, force=force),
        of_several=partial(Operations.enable, force=force, one_of_several=True),
    )


@click.command()
@accounts_argument()
@yes_option
@click.option("--keep-grant", is_flag=True, help="Do not revoke it at the provider.")
@click.option("--force", is_flag=True, help="Revoke it also where another account may live on it.")
@json_option
@click.pass_obj
def remove(
    session: Session,
    accounts: tuple[str, ...],
    yes: bool,  # noqa: FBT001
    keep_grant: bool,  # noqa: FBT001
    force: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Remove accounts with their credentials, and revoke their grants."""
    if keep_grant and force:
        raise click.UsageError("--keep-grant and --force can't both be meant")
    verb = lambda operations, account: operations.remove(account, keep_grant=keep_grant, force=force)  # noqa: E731
    # One after the other: accounts that share a login know of each other only while both are there.
    Several(session=session, doing="remove", yes=yes, as_json=as_json, always_asks=True, at_once=1).carry_out(
        accounts, verb
    )


@click.command()
@click.argument("pool", callback=as_text, shell_complete=complete_pools)
@click.argument("sources", metavar="SOURCE... [NAME]", nargs=-1, required=True, callback=as_texts)
@yes_option
@json_option
@click.pass_obj
def add(session: Session, pool: str, sources: tuple[str, ...], yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Add accounts to POOL, or re-add them with new credentials.

    SOURCE is @FILE, env:NAME or - (standard input, or a hidden prompt): a token response, Google authorized_user
    JSON, an Antigravity Manager account file, or a bare refresh token; none, where a plugin fetches the tokens. Each is
    proved with a refresh first. NAME, behind a single SOURCE, is needed where the provider tells none, and must be
    what it tells otherwise.
    """
    given, name = list(dict.fromkeys(sources)), None
    if len(given) > 1 and not is_source(given[-1]):
        name = given.pop()
    if (name is not None and len(given) > 1) or not all(map(is_source, given[1:])):
        raise click.UsageError("write one SOURCE and perhaps a NAME, or several SOURCEs: @FILE, env:NAME or -")
    with failures_told(as_json=as_json):
        if len(given) == 1:
            credential = read_source(given[0], environ=os.environ, stdin=read_secret)
            tell(session.run(lambda operations: operations.add(pool, credential, name)), as_json=as_json)
            return
        read = {source: _read(source) for source in given}

        async def add_one(operations: Operations, source: str) -> str:
            credential = read[source]
            if isinstance(credential, AuthpoolError):
                raise credential
            return await operations.add(pool, credential)

        # One after the other: `add` lets only one at a time ask a provider.
        Several(session=session, doing="add", yes=yes, as_json=as_json, at_once=1).carry_out_each(given, add_one)


def _read(source: str) -> Credential | AuthpoolError:
    """What a source holds, or what is wrong with it: that is told in its turn."""
    try:
        return read_source(source, environ=os.environ, stdin=read_secret)
    except AuthpoolError as error:
        return error


def is_source(text: str) -> bool:
    """Whether an argument says where a credential is, rather than what an account is called."""
    return text in {"-", "none"} or text.startswith(("@", "env:"))
