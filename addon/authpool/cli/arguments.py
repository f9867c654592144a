"""Options of all verbs, on either side of the verb; and wrong usage, told to scripts as JSON."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from authpool.cli.tools import TOOLS

_BEFORE = "--home"
_BEHIND = "--json"


def arranged(arguments: Sequence[str], groups: Sequence[str] = ()) -> list[str]:
    """Put ``--home DIR`` before the verb and ``--json`` behind it, wherever they were written.

    What follows ``--``, or one of the stock tools, is somebody else's; `groups` have verbs of their own.
    """
    before, behind, rest = [], [], list[str]()
    verbs = 0
    waiting = list(arguments)
    while waiting:
        one = waiting.pop(0)
        if one == "--" or (verbs == 0 and one in TOOLS):
            rest += [one, *waiting]
            break
        if one == _BEFORE and waiting:
            before += [one, waiting.pop(0)]
        elif one.startswith(f"{_BEFORE}="):
            before.append(one)
        elif one == _BEHIND and verbs < (2 if groups and rest and rest[0] in groups else 1):
            behind.append(one)
        else:
            verbs += not one.startswith("-")
            rest.append(one)
    return [*before, *_with_behind(rest, behind, groups)]


def _with_behind(rest: list[str], behind: list[str], groups: Sequence[str]) -> list[str]:
    """Behind the verb that it is for; a group's own verb is the second word. Nowhere, where there is no verb."""
    place = 2 if rest and rest[0] in groups else 1
    if len(rest) < place or rest[0].startswith("-"):
        return rest
    return [*rest[:place], *behind[:1], *rest[place:]]


def is_for_script(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is one of our own options, before anybody has looked at them."""
    ours: list[str] = []
    for one in arguments:
        if one == "--" or one in TOOLS:
            break
        ours.append(one)
    return _BEHIND in ours


class Verbs(click.Group):
    """The commands of `authpool`. The context's object is True, until the session is there, where a script asks."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        groups = [name for name, one in self.commands.items() if isinstance(one, click.Group)]
        arguments = sys.argv[1:] if args is None else args
        given = arranged(arguments, groups)
        if not is_for_script(arguments) or not extra.get("standalone_mode", True):
            return super().main(given, **extra)
        try:
            result = super().main(given, **{**extra, "standalone_mode": False, "obj": True})
        except click.UsageError as error:
            helps = isinstance(error, click.exceptions.NoArgsIsHelpError)  # whose message is all of the help
            told = "there is no command: authpool --help lists them" if helps else error.format_message()
            click.echo(json.dumps({"ok": False, "error": told, "code": "usage"}))
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo(json.dumps({"ok": False, "error": "it was broken off", "code": "interrupted"}))
            sys.exit(1)
        sys.exit(result if isinstance(result, int) else 0)
