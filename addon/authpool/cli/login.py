"""`authpool login`: somebody signs in, in a browser here or elsewhere."""

import asyncio
import getpass
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TextIO

import click

from authpool.cli.addresses import clickable, is_rich, large, qr_code, qr_code_on
from authpool.cli.browser import start_browser
from authpool.cli.completion import complete_pools
from authpool.cli.lines import Lines
from authpool.cli.session import Session, failures_told, json_option, tell
from authpool.cli.streams import as_text
from authpool.errors import RefusedError
from authpool.oauth.authorization import AuthorizationRequest
from authpool.oauth.device_authorization import DeviceCode
from authpool.verbs.headless import ssh_line, why_headless
from authpool.verbs.operations import Operations
from authpool.verbs.person import TIMEOUT_SECONDS


def _number(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """A time that ends; every comparison lets `nan` pass."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number of seconds.")
    return value


@click.command()
@click.argument("pool", callback=as_text, shell_complete=complete_pools)
@click.argument("name", required=False, callback=as_text)
@click.option("--device", is_flag=True, help="Sign in on another device, by a code that is typed there (RFC 8628).")
@click.option("--no-browser", is_flag=True, help="Start no browser; the address is printed in any case.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port on loopback that the sign-in comes back to.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 86400),
    default=TIMEOUT_SECONDS,
    show_default=True,
    callback=_number,
    metavar="SECONDS",
    help="How long to wait for somebody to sign in.",
)
@click.option("--qr", is_flag=True, help="Show the address as a QR code, too.")
@json_option
@click.pass_obj
def login(
    session: Session,
    pool: str,
    name: str | None,
    device: bool,  # noqa: FBT001 - click passes it by name
    no_browser: bool,  # noqa: FBT001
    port: int | None,
    timeout: float,
    qr: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Add an account to POOL by signing in, or take one back.

    The address to sign in at is printed on standard error, alone on its line, and a browser is started where there is
    one. The sign-in comes back to a port of this machine; or paste the address that the browser ends up at, or the
    code alone. NAME must be who signs in; it is needed where the provider tells no name.

    Where no browser can be started, and with --device, a code is shown instead, for providers that have that.
    """
    if device and port is not None:
        raise click.UsageError("--device comes back to no port")
    person = Terminal(browser=not no_browser, timeout_seconds=timeout, qr=qr)

    async def sign_in(operations: Operations) -> str:
        with person:
            return await operations.login(pool, name, person, device=device, port=port, timeout_seconds=timeout)

    with failures_told(as_json=as_json):
        if qr:
            qr_code("x")  # what it lacks is said before anybody is waited for
        tell(session.run(sign_in, reminded=False), as_json=as_json)


@dataclass(slots=True, kw_only=True)
class Terminal:
    """The person at this terminal: told on standard error, heard on standard input."""

    browser: bool
    timeout_seconds: float
    qr: bool = False
    out: TextIO | None = field(default_factory=lambda: sys.stderr)
    _lines: Lines | None = None

    def __enter__(self) -> Self:
        self._lines = Lines(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.close()

    def why_headless(self) -> str | None:
        return why_headless(os.environ, sys.platform, lambda name: Path(name).exists())

    def warn(self, text: str) -> None:
        self._say(f"authpool: {text}")

    def show_code(self, code: DeviceCode) -> None:
        """Print where to go with another device, and the code to type there."""
        self._say(f"Sign in with a browser anywhere, within {min(self.timeout_seconds, code.lifetime_seconds):g} s:")
        self._address(code.url, code.complete_url)
        self._say(f"and enter this code there:\n{self._large(code.user_code)}")
        if code.complete_url is not None:
            self._say("Or open this address, which has the code in it, and compare:")
            self._say(clickable(code.complete_url, rich=self._rich))

    @property
    def _rich(self) -> bool:
        return self.out is not None and is_rich(self.out, os.environ)

    def _address(self, url: str, drawn: str | None = None) -> None:
        """Print an address alone on its line, before anything else can go wrong."""
        self._say(clickable(url, rich=self._rich))
        if self.qr:
            self._draw(drawn or url)

    def _draw(self, url: str) -> None:
        """Draw an address; what can't be drawn is said, and ends nothing."""
        if self.out is None:
            return
        try:
            self._say(qr_code_on(self.out, url))
        except RefusedError as why:
            self._say(f"No QR code: {why}.")

    def _large(self, code: str) -> str:
        return large(code, rich=self._rich, encoding=getattr(self.out, "encoding", None))

    def show(self, request: AuthorizationRequest, port: int) -> None:
        """Print where to sign in; then start a browser."""
        self._say(f"Sign in here, within {self.timeout_seconds:g} s:")
        self._address(request.url)
        headless = self.why_headless()
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
