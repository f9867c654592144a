"""One run of the command line: the home it works on, and how its outcome is told to people and to scripts."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from authpool.accounts.printable import printable
from authpool.cli.columns import cell_len
from authpool.cli.interrupts import carry_out
from authpool.config import GatewayConfig, load_config
from authpool.errors import AuthpoolError, ConfigurationError
from authpool.files.home import check_home, home_folder
from authpool.gateway.service import Service
from authpool.plugins.manager import Plugins, load_plugins
from authpool.store import Store
from authpool.store.audit import Entry
from authpool.verbs.operations import Operations

json_option = click.option("--json", "as_json", is_flag=True, help="Answer JSON, for scripts.")
"""Of every verb that answers scripts, too."""


class Session:
    """What ``authpool [--home DIR]`` says for every verb. `home_option` is None when it was not given."""

    def __init__(self, home_option: str | None) -> None:
        self.home_option = home_option

    @property
    def home(self) -> Path:
        return home_folder(self.home_option, os.environ)

    def plugins(self) -> Plugins:
        """The plugins that a gateway on this home loads, whatever the home's configuration is like."""
        return load_plugins(self.home, os.environ)

    def run[T](self, operation: Callable[[Operations], Coroutine[Any, Any, T]], *, reminded: bool = True) -> T:
        """Carry out an operation on the home, under the same locks as a gateway; `reminded` as in `carry_out`.

        Raises AuthpoolError.
        """
        if self.home.exists():
            check_home(self.home)
        return asyncio.run(self._run(operation, reminded=reminded))

    def pool_names(self) -> list[str]:
        """The configured pools. Raises ConfigurationError."""
        return sorted(load_config(self.home, os.environ, self.plugins(), secrets_later=True).pools)

    def account_names(self, pool: str) -> list[str]:
        """What the accounts of a pool are called, without reading them where the store can do that."""
        return self.run(lambda operations: operations.names(pool), reminded=False)

    def check(self, plugins: Sequence[str] = ()) -> None:
        """See whether a gateway could start on the home. Raises AuthpoolError."""
        if self.home.exists():
            check_home(self.home)
        logging.disable(logging.WARNING)  # what it warns of the gateway says itself in a moment
        try:
            asyncio.run(self._check(plugins))
        finally:
            logging.disable(logging.NOTSET)

    def entries(self) -> list[Entry]:
        """Every entry of the audit trail, also where the configuration can't be read: then of the usual store."""
        plugins = self.plugins()
        try:
            gateway = load_config(self.home, os.environ, plugins, secrets_later=True).gateway
        except ConfigurationError:
            gateway = GatewayConfig()
        return asyncio.run(_entries(plugins.store(gateway, self.home)))

    async def _run[T](self, operation: Callable[[Operations], Coroutine[Any, Any, T]], *, reminded: bool) -> T:
        service = Service(self.home, os.environ, process="command line")
        try:
            await service.open()
            return await carry_out(operation(Operations(service)), reminded=reminded)
        finally:
            await service.stop()

    async def _check(self, plugins: Sequence[str]) -> None:
        service = Service(self.home, os.environ, process="command line", plugins=plugins)
        try:
            service.require_seal_key()
            Operations(service).require_secrets()
        finally:
            await service.stop()


async def _entries(store: Store) -> list[Entry]:
    try:
        await store.open()
        return await store.entries()
    finally:
        await store.aclose()


@contextmanager
def failures_told(*, as_json: bool) -> Iterator[None]:
    """Tell what was refused or failed, without a traceback, and end with exit status 1."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read has seen enough: click ends quietly
    except (AuthpoolError, OSError) as error:
        message = _message(error)
        if as_json:
            code = error.error_code if isinstance(error, AuthpoolError) else "system"
            click.echo(json.dumps({"ok": False, "error": message, "code": code}))
        else:
            click.echo(f"authpool: {message}", err=True)
        raise SystemExit(1) from None


def _message(error: AuthpoolError | OSError) -> str:
    if isinstance(error, AuthpoolError):
        return printable(str(error))
    named = "standard output" if error.filename is None else os.fsdecode(error.filename)
    return f"{named}: {error.strerror or type(error).__name__}"


def tell(
    message: str, *, as_json: bool, more: Mapping[str, Any] | None = None, error: str = "", code: str = "failed"
) -> None:
    """Tell what was done, and what was not (`error`), with exit status 1 then; `more` and `code` are for scripts."""
    if as_json:
        failed = {"error": error, "code": code} if error else {}
        click.echo(json.dumps({"ok": not error, "message": message, **failed, **(more or {})}))
    else:
        click.echo(message)
        if error:
            click.echo(f"authpool: {error}", err=True)
    if error:
        raise SystemExit(1)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns; a missing value is a dash."""
    cells = [[cell or "-" for cell in row] for row in (header, *rows)]
    lengths = [[cell_len(cell) for cell in row] for row in cells]  # in columns of a terminal
    widths = [max(column) for column in zip(*lengths, strict=True)]
    lines = (
        "  ".join(cell + " " * (width - length) for cell, width, length in zip(row, widths, of_row, strict=True))
        for row, of_row in zip(cells, lengths, strict=True)
    )
    return "\n".join(line.rstrip() for line in lines)
