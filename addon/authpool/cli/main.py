"""The command line: the verbs of mitmproxy's prompt, on the home directly, with or without a gateway running."""

import dataclasses
import json
import logging
import os
from collections import Counter

import click

from authpool import __version__
from authpool.cli.account_verbs import add, enable, pause, refresh, remove, resume
from authpool.cli.arguments import Verbs
from authpool.cli.client_command import client
from authpool.cli.completion import complete_accounts, complete_pools, completion
from authpool.cli.exporting import export
from authpool.cli.importing import import_
from authpool.cli.listing import accounts
from authpool.cli.login import login
from authpool.cli.reloading import reload_gateways
from authpool.cli.scaffold import create_home
from authpool.cli.sealing import rekey, seal, unseal
from authpool.cli.session import Session, failures_told, json_option, table, tell
from authpool.cli.streams import answer, as_text, prepare
from authpool.cli.tools import TOOLS, tool_command
from authpool.files.process_memory import forbid_core_dumps, refuse_key_log
from authpool.pool.pool import State
from authpool.pool.report import reload_line
from authpool.verbs.history import HEADER as HISTORY_HEADER
from authpool.verbs.history import history as read_history
from authpool.verbs.history import history_cells
from authpool.verbs.operations import Operations
from authpool.verbs.plugin_table import HEADER as PLUGIN_HEADER
from authpool.verbs.plugin_table import plugin_cells

_account_argument = click.argument("account", metavar="POOL/NAME", callback=as_text, shell_complete=complete_accounts)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="DIR", help="The home. Default: AUTHPOOL_HOME, else ~/.authpool.")
@click.version_option(__version__, prog_name="authpool")
@click.pass_context
def cli(context: click.Context, home: str | None) -> None:
    """A credential gateway on mitmproxy, with a pool of OAuth accounts.

    Exit status: 0 done, 1 refused or failed, 2 wrong usage.
    """
    forbid_core_dumps()
    with failures_told(as_json=context.obj is True):
        refuse_key_log(os.environ)  # Python's own TLS writes one, too
    context.obj = Session(home)


@cli.command()
@json_option
@click.pass_obj
def init(session: Session, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Create what is missing in the home; nothing is overwritten."""
    with failures_told(as_json=as_json):
        items = create_home(session.home)
        lines = [f"{'created' if item.created else 'kept':<8} {item.path}" for item in items]
        told = [{"path": str(item.path), "created": item.created} for item in items]
        tell("\n".join(lines), as_json=as_json, more={"items": told})


@cli.command()
@click.argument("account", metavar="[POOL/NAME]", required=False, callback=as_text, shell_complete=complete_accounts)
@json_option
@click.pass_obj
def history(session: Session, account: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show what happened to every account, or to one, newest last."""
    with failures_told(as_json=as_json):
        entries = read_history(session.entries(), account)
        if as_json:
            answer(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        elif not entries:
            answer("Nothing has happened yet, or nothing that was written down")
        else:
            answer(table(HISTORY_HEADER, [history_cells(entry) for entry in entries]))


@cli.command()
@json_option
@click.pass_obj
def plugins(session: Session, as_json: bool) -> None:  # noqa: FBT001
    """Show every plugin: from where, with which hooks, and why one is left out."""
    with failures_told(as_json=as_json):
        rows = session.plugins().rows
        if as_json:
            answer(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        else:
            answer(table(PLUGIN_HEADER, [plugin_cells(row) for row in rows]))


@cli.command()
@click.option("--force", is_flag=True, help="Also where pools that have accounts, or all of them, are dropped.")
@json_option
@click.pass_obj
def reload(session: Session, force: bool, as_json: bool) -> None:  # noqa: FBT001
    """Check the configuration, let every gateway that runs on the home reload, and tell what each did."""
    with failures_told(as_json=as_json):
        pools = session.run(_counts)
        outcomes = reload_gateways(
            session.home, lambda: session.run(lambda operations: operations.request_reload(forced=force))
        )
        lines = [f"{name}: {reload_line(name, counts).partition(': ')[2]}" for name, counts in pools.items()]
        lines += [str(one) for one in outcomes if not one.failed]
        if not outcomes:
            lines.append(f"No gateway runs on {session.home}")
        failed = "; ".join(str(one) for one in outcomes if one.failed)
        more = {"pools": pools, "gateways": [dataclasses.asdict(one) for one in outcomes]}
        tell("\n".join(lines), as_json=as_json, more=more, error=failed)


@cli.command()
@_account_argument
@click.argument("pool", metavar="POOL", callback=as_text, shell_complete=complete_pools)
@json_option
@click.pass_obj
def move(session: Session, account: str, pool: str, as_json: bool) -> None:  # noqa: FBT001
    """Move an account with its credential to another POOL of the same provider and client."""
    with failures_told(as_json=as_json):
        tell(session.run(lambda operations: operations.move(account, pool)), as_json=as_json)


for _command in (
    *(add, login, accounts, pause, resume, refresh, enable, remove),
    *(import_, export, seal, unseal, rekey, completion),
):
    cli.add_command(_command)
cli.add_command(client)
for _tool in TOOLS:
    cli.add_command(tool_command(_tool))


def main() -> None:
    """Run the command line of this process."""
    prepare()
    logging.basicConfig(level=logging.WARNING, format="authpool: %(message)s")
    for name in ("httpx", "httpcore"):  # they log URLs, and a credential may be in a query
        logging.getLogger(name).setLevel(logging.WARNING)
    cli(prog_name="authpool")


async def _counts(operations: Operations) -> dict[str, Counter[State]]:
    operations.require_secrets()
    pools: dict[str, Counter[State]] = {name: Counter() for name in operations.pools()}
    for row in await operations.accounts():
        if row.pool in pools:  # of those that are not configured no gateway knows
            pools[row.pool][row.state] += 1
    return pools
