"""`authpool mitmdump|mitmweb|mitmproxy`: the stock tools, with the gateway's script loaded."""

import os
import sys
from pathlib import Path

import click

from authpool.cli.scaffold import LOADER
from authpool.cli.session import Session, failures_told
from authpool.errors import RefusedError

TOOLS = ("mitmdump", "mitmweb", "mitmproxy")


class PassThrough(click.Command):
    """A command whose arguments are all somebody else's: not even ``--help`` or ``--`` is looked at."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        return []


def tool_command(name: str) -> click.Command:
    """Make the command that turns into the stock tool `name`."""

    @click.pass_obj
    def start(session: Session, arguments: tuple[str, ...]) -> None:
        with failures_told(as_json=False):
            command = tool_arguments(name, session, arguments)
            os.execv(command[0], command)  # noqa: S606 - no shell is wanted

    help_text = f"Start {name} with the gateway loaded; all arguments are {name}'s own."
    return PassThrough(name, callback=start, help=help_text, options_metavar="[ARGS]...", add_help_option=False)


def tool_arguments(name: str, session: Session, arguments: tuple[str, ...]) -> list[str]:
    """The command line of the stock tool beside this Python. Raises RefusedError when there is none."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise RefusedError(f"there is no {path}; install mitmproxy into the same environment as authpool")
    home = ["--set", f"authpool_home={session.home}"] if session.home_option is not None else []
    return [str(path), "-s", str(LOADER), *home, *arguments]
