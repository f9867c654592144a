"""Completion of verbs, options, pools and accounts in a shell, by click's own machinery."""

import contextlib
import logging
from collections.abc import Callable
from io import StringIO

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from authpool.cli.session import Session

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_AUTHPOOL_COMPLETE"


@add_completion_class
class QuotingBashComplete(BashComplete):
    """Click's for bash, with what it inserts quoted: an account is called as its provider says, ``$(...)`` too.

    Nothing is completed within quotes, where that would be another quoting.
    """

    name = "bash"
    source_template = """\
# Account names have an @ in them, and a colon now and then: words are not to end there.
COMP_WORDBREAKS=${COMP_WORDBREAKS//[@:]/}

%(complete_func)s() {
    local IFS=$' \\t\\n' type value
    [[ "${COMP_WORDS[COMP_CWORD]-}" == [\\"\\']* ]] && return 0
    while IFS=',' read -r type value; do
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            printf -v value '%%q' "$value"
            COMPREPLY+=("$value")
        fi
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
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
    click.echo(completer(context.find_root().command, {}, "authpool", _VARIABLE).source())


def complete_pools(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The configured pools. For click's `shell_complete`."""
    return _quietly(lambda session: _pools(session, incomplete), context)


def complete_accounts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Pools first, with a slash behind, as long as several are possible; then accounts. For `shell_complete`."""
    taken = frozenset(context.params.get("accounts") or ())
    return _quietly(lambda session: _accounts(session, incomplete, taken), context)


def _pools(session: Session, begun: str) -> list[str]:
    return [name for name in session.pool_names() if name.startswith(begun)]


def _accounts(session: Session, incomplete: str, taken: frozenset[str]) -> list[str]:
    pool, slash, begun = incomplete.partition("/")
    if not slash:
        pools = _pools(session, pool)
        if len(pools) != 1:  # a shell sets a space behind a word that is the only one
            return [f"{name}/" for name in pools]
        (pool,) = pools
    wanted = begun.casefold()
    found = [f"{pool}/{name}" for name in session.account_names(pool) if name.casefold().startswith(wanted)]
    return [address for address in found if address not in taken]


def _quietly(find: Callable[[Session], list[str]], context: click.Context) -> list[CompletionItem]:
    """Whoever presses Tab wants no message, whatever is wrong: then there is nothing to complete."""
    logging.disable()
    try:
        with contextlib.redirect_stderr(StringIO()):
            return [CompletionItem(name) for name in find(_session(context))]
    except Exception:  # noqa: BLE001 - a plugin's, too
        return []
    finally:
        logging.disable(logging.NOTSET)


def _session(context: click.Context) -> Session:
    """The session, which has not begun where a shell asks."""
    found = context.find_object(Session)
    home = context.find_root().params.get("home")
    return found if found is not None else Session(home)
