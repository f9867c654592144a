"""The operator's verbs as mitmproxy commands, for the console's prompt and mitmweb's command bar."""

import logging
import os
from collections.abc import Awaitable, Callable

from mitmproxy import command, exceptions, types
from mitmproxy.utils import asyncio_utils

from authpool.errors import AuthpoolError
from authpool.proxy.addon import Gateway
from authpool.service import Service
from authpool.verbs.account_table import HEADER, account_cells
from authpool.verbs.history import HEADER as HISTORY_HEADER
from authpool.verbs.history import history, history_cells
from authpool.verbs.operations import Operations, live_rows
from authpool.verbs.plugin_table import HEADER as PLUGIN_HEADER
from authpool.verbs.plugin_table import plugin_cells
from authpool.verbs.sources import read_source

logger = logging.getLogger(__name__)

HISTORY_ENTRIES = 2000
"""So far back `authpool.history` looks: all requests wait while it does. The command line looks at everything."""


class Commands:
    """Commands that take a while start as a task and report in the log: mitmproxy's commands can't wait."""

    name = "authpool_commands"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @command.command("authpool.add")
    def add(self, pool: str, source: str, name: str = "") -> None:
        """Add or re-add an account. SOURCE is @FILE or env:NAME, never a secret: what is typed is remembered."""
        try:
            credential = read_source(source, environ=os.environ)
        except AuthpoolError as error:
            raise exceptions.CommandError(str(error)) from error
        self._start(lambda operations: operations.add(pool, credential, name or None))

    @command.command("authpool.accounts")
    def accounts(self) -> types.Data:
        """Every account: pool, name, state, reason, since, token expiry, requests served."""
        return [list(HEADER), *(list(account_cells(row)) for row in live_rows(self._service()))]  # type: ignore[return-value]

    @command.command("authpool.history")
    def history(self, account: str = "") -> types.Data:
        """What happened lately to every account, or to POOL/NAME, newest last: time, event, process, reason."""
        try:
            entries = history(self._service().home, account or None, HISTORY_ENTRIES)
        except AuthpoolError as error:
            raise exceptions.CommandError(str(error)) from error
        return [list(HISTORY_HEADER), *(list(history_cells(entry)) for entry in entries)]  # type: ignore[return-value]

    @command.command("authpool.plugins")
    def plugins(self) -> types.Data:
        """Every plugin: name, origin, version, hooks, and why one is left out."""
        rows = self._service().plugins.rows
        return [list(PLUGIN_HEADER), *(list(plugin_cells(row)) for row in rows)]  # type: ignore[return-value]

    @command.command("authpool.reload")
    def reload(self) -> None:
        """Re-read configuration and accounts. The new pool is built aside and swapped in."""
        self._service()
        self._gateway.reload_soon()

    @command.command("authpool.pause")
    def pause(self, account: str) -> None:
        """Let POOL/NAME serve nothing until it is resumed."""
        self._start(lambda operations: operations.pause(account))

    @command.command("authpool.resume")
    def resume(self, account: str) -> None:
        """Let the paused POOL/NAME serve again."""
        self._start(lambda operations: operations.resume(account))

    @command.command("authpool.enable")
    def enable(self, account: str, force: str = "") -> None:
        """Take the disabled POOL/NAME back, if a refresh succeeds; with the word `force`, without one."""
        if force not in {"", "force"}:
            raise exceptions.CommandError('the second word can only be "force"')
        self._start(lambda operations: operations.enable(account, force=bool(force)))

    @command.command("authpool.refresh")
    def refresh(self, account: str) -> None:
        """Fetch a new access token for POOL/NAME now."""
        self._start(lambda operations: operations.refresh(account))

    @command.command("authpool.move")
    def move(self, account: str, pool: str) -> None:
        """Move POOL/NAME with its credential to another POOL of the same provider and client."""
        self._start(lambda operations: operations.move(account, pool))

    @command.command("authpool.remove")
    def remove(self, account: str) -> None:
        """Remove POOL/NAME and its credential from the home."""
        self._start(lambda operations: operations.remove(account))

    def _service(self) -> Service:
        service = self._gateway.service
        if service is None:
            raise exceptions.CommandError("the gateway is not running: the log says why")
        return service

    def _start(self, operation: Callable[[Operations], Awaitable[str]]) -> None:
        asyncio_utils.create_task(_report(operation, self._service()), name="authpool command", keep_ref=True)


async def _report(operation: Callable[[Operations], Awaitable[str]], service: Service) -> None:
    try:
        logger.info(await operation(Operations(service)))
    except AuthpoolError as error:
        logger.error("authpool: %s", error)
    except Exception:
        logger.exception("An authpool command failed")
