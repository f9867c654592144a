"""`authpool login`: somebody signs in, in a browser here or elsewhere."""

import asyncio
import getpass
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TextIO

import click

from authpool.cli.browser import start_browser
from authpool.cli.headless import ssh_line, why_headless
from authpool.cli.lines import Lines
from authpool.cli.session import Session, failures_told, tell
from authpool.cli.streams import as_text
from authpool.oauth.authorization import AuthorizationRequest
from authpool.verbs.operations import Operations
from authpool.verbs.signing_in import TIMEOUT_SECONDS


@click.command()
@click.argument("pool", callback=as_text)
@click.argument("name", required=False, callback=as_text)
@click.option("--no-browser", is_flag=True, help="Start no browser; the address is printed in any case.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port on loopback that the sign-in comes back to.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 86400),
    default=TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for somebody to sign in.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer JSON, for scripts.")
@click.pass_obj
def login(
    session: Session,
    pool: str,
    name: str | None,
    no_browser: bool,  # noqa: FBT001 - click passes it by name
    port: int | None,
    timeout: float,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Add an account to POOL by signing in, or take one back.

    The address to sign in at is printed on standard error, alone on its line, and a browser is started where there is
    one. The sign-in comes back to a port of this machine; or paste the address that the browser ends up at, or the
    code alone. NAME must be who signs in; it is needed where the provider tells no name.
    """
    person = Terminal(browser=not no_browser, timeout_seconds=timeout)

    async def sign_in(operations: Operations) -> str:
        with person:
            return await operations.login(pool, name, person, port=port, timeout_seconds=timeout)

    with failures_told(as_json=as_json):
        tell(session.run(sign_in, reminds=False), as_json=as_json)


@dataclass(slots=True, kw_only=True)
class Terminal:
    """The person at this terminal: told on standard error, heard on standard input."""

    browser: bool
    timeout_seconds: float
    out: TextIO = field(default_factory=lambda: sys.stderr)
    _lines: Lines | None = None

    def __enter__(self) -> Self:
        self._lines = Lines(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.close()

    def show(self, request: AuthorizationRequest, port: int) -> None:
        """Print where to sign in, before anything else can go wrong; then start a browser."""
        self._say(f"Sign in here, within {self.timeout_seconds:g} s:")
        self._say(request.url)
        headless = why_headless(os.environ, sys.platform, lambda name: Path(name).exists())
        if headless is None:
            if self.browser and start_browser(request.url, os.environ):
                self._say("A browser was started.")
        else:
            self._say(f"Use a browser elsewhere, for {headless}.")
        tunnel = ssh_line(os.environ, port, _user())
        if tunnel is not None:
            self._say(f"For it to come back here by itself, run this where the browser is:\n{tunnel}")
        if self._lines is not None and self._lines.any:
            self._say("If the browser ends up at a page that can't be reached, paste that page's address here:")

    async def pasted(self) -> str:
        if self._lines is None:
            await asyncio.Event().wait()
        assert self._lines is not None  # noqa: S101 - the line above never ends
        return await self._lines.read()

    def doubt(self, why: str) -> None:
        self._say(f"That is not it: {why}. Paste the whole address, or the code alone:")

    def _say(self, text: str) -> None:
        if self.out is not None:
            click.echo(text, file=self.out)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user that nobody has a name for
        return "USER"
