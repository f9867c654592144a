"""One run of the command line: the home it works on, and how its outcome is told to people and to scripts."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from authpool.errors import AuthpoolError
from authpool.home import home_folder, secure_folder
from authpool.plugins import Plugins, load_plugins
from authpool.service import Service
from authpool.verbs.operations import Operations


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

    def run[T](self, operation: Callable[[Operations], Awaitable[T]]) -> T:
        """Carry out an operation on the home, under the same locks as a gateway. Raises AuthpoolError."""
        if self.home.exists():
            secure_folder(self.home)
        return asyncio.run(self._run(operation))

    async def _run[T](self, operation: Callable[[Operations], Awaitable[T]]) -> T:
        service = Service(self.home, os.environ, process="command line")
        try:
            return await operation(Operations(service))
        finally:
            await service.stop()


@contextmanager
def failures_told(*, as_json: bool) -> Iterator[None]:
    """Tell what was refused or failed, without a traceback, and end with exit status 1."""
    try:
        yield
    except (AuthpoolError, OSError) as error:
        message = f"{error}" if isinstance(error, AuthpoolError) else f"{error.filename or ''}: {error.strerror}"
        if as_json:
            click.echo(json.dumps({"ok": False, "error": message}))
        else:
            click.echo(f"authpool: {message}", err=True)
        raise SystemExit(1) from None


def tell(message: str, *, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Tell that it is done; `more` is for scripts."""
    click.echo(json.dumps({"ok": True, "message": message, **(more or {})}) if as_json else message)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns; a missing value is a dash."""
    cells = [[cell or "-" for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)
