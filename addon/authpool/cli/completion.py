"""Completion of verbs, options, pools and accounts in a shell, by click's own machinery."""

import contextlib
import logging
import os
from collections.abc import Callable
from io import StringIO

import click
from click.shell_completion import CompletionItem, get_completion_class

from authpool.cli.session import Session
from authpool.errors import AuthpoolError
from authpool.files.home import home_folder

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_AUTHPOOL_COMPLETE"
_MOST = 500
"""More names than that nobody looks through."""
_FOR_BASH = """\
# Account names have an @ in them, and a colon now and then: words are not to end there.
COMP_WORDBREAKS=${COMP_WORDBREAKS//[@:]/}
"""


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what lets SHELL complete verbs, options, pools and accounts.

    In ~/.bashrc: eval "$(authpool completion bash)"; in ~/.zshrc, behind compinit: eval "$(authpool completion zsh)";
    in ~/.config/fish/completions/authpool.fish what `authpool completion fish` prints.
    """
    completer = get_completion_class(shell)
    if completer is None:
        raise click.UsageError(f"there is no completion for {shell}")
    source = completer(context.find_root().command, {}, "authpool", _VARIABLE).source()
    click.echo((_FOR_BASH if shell == "bash" else "") + source)


def complete_pools(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The configured pools. For click's `shell_complete`."""
    return _quietly(lambda session: _pools(session, incomplete), context)


def complete_accounts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Pools first, with a slash behind; then the accounts of the one that is begun. For click's `shell_complete`."""
    taken = frozenset(context.params.get("accounts") or ())
    return _quietly(lambda session: _accounts(session, incomplete, taken), context)


def _pools(session: Session, begun: str) -> list[str]:
    return [name for name in session.pool_names() if name.startswith(begun)]


def _accounts(session: Session, incomplete: str, taken: frozenset[str]) -> list[str]:
    pool, slash, begun = incomplete.partition("/")
    if not slash:
        return [f"{name}/" for name in _pools(session, pool)]
    wanted = begun.casefold()
    found = [f"{pool}/{name}" for name in session.account_names(pool) if name.casefold().startswith(wanted)]
    return [address for address in found if address not in taken][:_MOST]


def _quietly(find: Callable[[Session], list[str]], context: click.Context) -> list[CompletionItem]:
    """Whoever presses Tab wants no message, whatever is wrong: then there is nothing to complete."""
    logging.disable()
    try:
        with contextlib.redirect_stderr(StringIO()):
            return [CompletionItem(name) for name in find(_session(context))]
    except (AuthpoolError, OSError):
        return []
    finally:
        logging.disable(logging.NOTSET)


def _session(context: click.Context) -> Session:
    """The session, which has not begun where a shell asks."""
    found = context.find_object(Session)
    home = context.find_root().params.get("home")
    return found if found is not None else Session(home or str(home_folder(None, os.environ)))
