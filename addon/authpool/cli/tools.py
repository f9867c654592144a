"""`authpool mitmdump|mitmweb|mitmproxy`: the stock tools, with the gateway's script loaded."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
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
        # Until the gateway is loaded: a reload has nothing to reload yet.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with failures_told(as_json=False):
            command = tool_arguments(name, session, arguments)
            check_first(session, arguments)
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


def check_first(session: Session, arguments: Sequence[str]) -> None:
    """See that the gateway can start, where its home is known before mitmproxy is. Raises AuthpoolError.

    mitmproxy would tell a mistake in the middle of what it says itself, or in a screen that it closes at once.
    """
    if not _ONLY_TELLS.isdisjoint(arguments) or _configured_elsewhere(arguments):
        return
    home = _settings("authpool_home", arguments)
    (Session(home[-1]) if home else session).check(_settings("authpool_plugins", arguments))


_ONLY_TELLS = frozenset({"-h", "--help", "--version", "--options", "--commands"})
"""What makes a tool tell something and end."""


def _settings(name: str, arguments: Sequence[str]) -> list[str]:
    """What each ``--set NAME=...`` says."""
    words = [word.removeprefix("--set=") for word in arguments]
    return [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]


def _configured_elsewhere(arguments: Sequence[str]) -> bool:
    """Whether mitmproxy's own configuration file names a home or plugins."""
    folder = Path([*_settings("confdir", arguments), "~/.mitmproxy"][0])
    for name in ("config.yaml", "config.yml"):
        with suppress(OSError, RuntimeError, UnicodeDecodeError):
            if "authpool_" in (folder.expanduser() / name).read_text("utf-8"):
                return True
    return False
