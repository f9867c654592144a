"""The operator's verbs as mitmproxy commands, for the console's prompt and mitmweb's command bar."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from mitmproxy import command, exceptions, types

from authpool.accounts.account import AccountKey
from authpool.config import PoolConfig
from authpool.errors import AuthpoolError
from authpool.gateway.service import Service
from authpool.oauth.token_client import ANSWER_SECONDS, CONNECT_SECONDS
from authpool.oauth.token_requests import GRACE_SECONDS
from authpool.proxy.addon import Gateway
from authpool.proxy.log_reader import LogReader, told_level
from authpool.verbs.account_rows import live_rows
from authpool.verbs.account_table import HEADER, account_cells
from authpool.verbs.client_table import HEADER as CLIENT_HEADER
from authpool.verbs.client_table import client_cells
from authpool.verbs.gateway_clients import live_rows as live_clients
from authpool.verbs.history import HEADER as HISTORY_HEADER
from authpool.verbs.history import history, history_cells
from authpool.verbs.operations import Operations
from authpool.verbs.plugin_table import HEADER as PLUGIN_HEADER
from authpool.verbs.plugin_table import plugin_cells
from authpool.verbs.several import Outcome, each, is_pattern
from authpool.verbs.sources import read_source

logger = logging.getLogger(__name__)

PROOF_SECONDS = GRACE_SECONDS + CONNECT_SECONDS + ANSWER_SECONDS
"""So long a token endpoint may take, from the first time a credential is presented to the last answer."""
type _Verb = Callable[[Operations, str], Awaitable[str]]
_LOG_TELLS = "The event log says what comes of it"


class Commands:
    """Commands that take a while start as a task and report in the log: mitmproxy's commands can't wait.

    They answer at once what is under way: mitmweb and the console show a command's answer, and mitmweb hides its log.
    """

    name = "authpool_commands"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._readers: set[LogReader] = set()

    @command.command("authpool.add")
    def add(self, pool: str, source: str, name: str = "") -> str:
        """Add or re-add an account. SOURCE is @FILE or env:NAME, never a secret: what is typed is remembered."""
        try:
            credential = read_source(source, environ=os.environ)
        except AuthpoolError as error:
            raise exceptions.CommandError(str(error)) from error
        pools = self._known_pool(pool)
        self._run(lambda operations: operations.add(pool, credential, name or None))
        proof = f": the token endpoint has up to {PROOF_SECONDS:.0f} s to prove the credential"
        return f"Adding to {pool}{'' if pools[pool].type == 'static' else proof}. {_LOG_TELLS}"

    @command.command("authpool.login")
    def login(self, pool: str, name: str = "") -> str:
        """Add or re-add an account by signing in: the event log has the address for a browser on this machine."""
        self._known_pool(pool)
        reader = LogReader()
        self._readers.add(reader)
        self._run(lambda operations: self._login(operations, pool, name, reader), waits_for_person=True)
        return f"Signing in to {pool}: the event log has the address to open in a browser, and what comes of it"

    async def _login(self, operations: Operations, pool: str, name: str, reader: LogReader) -> str:
        try:
            return await operations.login(pool, name or None, reader)
        finally:
            self._readers.discard(reader)

    @command.command("authpool.login.answer")
    def login_answer(self, answer: str) -> str:
        """Finish a sign-in whose browser can't reach this machine: the address that it ended up at, or the code."""
        if not self._readers:
            raise exceptions.CommandError("no sign-in is under way; begin one with authpool.login POOL")
        if len(self._readers) > 1 and "state=" not in answer:
            raise exceptions.CommandError("more than one sign-in is under way: give the whole address")
        for reader in self._readers:
            reader.hear(answer)
        return f"Finishing the sign-in. {_LOG_TELLS}"

    @command.command("authpool.accounts")
    def accounts(self) -> types.Data:
        """Every account: pool, name, state, reason, since, token expiry, requests served."""
        return [list(HEADER), *(list(account_cells(row)) for row in live_rows(self._service()))]  # type: ignore[return-value]

    @command.command("authpool.history")
    def history(self, account: str = "") -> types.Data:
        """What happened lately to every account, or to POOL/NAME, newest last: time, event, process, reason."""
        try:
            entries = history(self._service().trail.latest(), account or None)
        except AuthpoolError as error:
            raise exceptions.CommandError(str(error)) from error
        return [list(HISTORY_HEADER), *(list(history_cells(entry)) for entry in entries)]  # type: ignore[return-value]

    @command.command("authpool.clients")
    def clients(self) -> types.Data:
        """Who may use the gateway: pools, hosts, expiry, limits, last used, requests, refused. Shows no key."""
        return [list(CLIENT_HEADER), *(list(client_cells(row)) for row in live_clients(self._service()))]  # type: ignore[return-value]

    @command.command("authpool.plugins")
    def plugins(self) -> types.Data:
        """Every plugin: name, origin, version, hooks, and why one is left out."""
        rows = self._service().plugins.rows
        return [list(PLUGIN_HEADER), *(list(plugin_cells(row)) for row in rows)]  # type: ignore[return-value]

    @command.command("authpool.reload")
    def reload(self, force: str = "") -> str:
        """Re-read configuration and accounts; with the word `force`, also where pools with accounts are dropped."""
        if force not in {"", "force"}:
            raise exceptions.CommandError('the word can only be "force"')
        self._service()
        self._gateway.reload_soon(forced=bool(force))
        return f"Reloading configuration and accounts. {_LOG_TELLS}"

    @command.command("authpool.pause")
    def pause(self, account: str) -> str:
        """Let POOL/NAME serve nothing until it is resumed."""
        return self._start("Pausing", account, Operations.pause)

    @command.command("authpool.resume")
    def resume(self, account: str) -> str:
        """Let the paused POOL/NAME serve again; POOL alone: trust its client again after a storm of rejections."""
        if account in self._service().snapshot.pools:
            self._run(lambda operations: operations.resume(account))
            return f"Resuming the refreshes of pool {account}. {_LOG_TELLS}"
        return self._start("Resuming", account, Operations.resume)

    @command.command("authpool.enable")
    def enable(self, account: str, force: str = "") -> str:
        """Take the disabled POOL/NAME back, if a refresh succeeds; with the word `force`, without one."""
        if force not in {"", "force"}:
            raise exceptions.CommandError('the second word can only be "force"')
        several = partial(Operations.enable, force=bool(force), one_of_several=True)
        return self._start("Enabling", account, partial(Operations.enable, force=bool(force)), several=several)

    @command.command("authpool.refresh")
    def refresh(self, account: str) -> str:
        """Fetch a new access token for POOL/NAME now."""
        several = partial(Operations.refresh, one_of_several=True)
        return self._start("Refreshing", account, Operations.refresh, several=several)

    @command.command("authpool.move")
    def move(self, account: str, pool: str) -> str:
        """Move POOL/NAME with its credential to another POOL of the same provider and client."""
        return self._start(f"Moving to {pool}:", account, lambda verbs, one: verbs.move(one, pool), single=True)

    @command.command("authpool.remove")
    def remove(self, account: str, grant: str = "") -> str:
        """Remove POOL/NAME and revoke its grant; with the word `keep-grant` not, with `force` whoever shares it."""
        if grant not in {"", "keep-grant", "force"}:
            raise exceptions.CommandError('the second word can only be "keep-grant" or "force"')
        keep_grant, force = grant == "keep-grant", grant == "force"
        remove = lambda verbs, one: verbs.remove(one, keep_grant=keep_grant, force=force)  # noqa: E731
        return self._start("Removing", account, remove, single=True)

    def _known_pool(self, pool: str) -> Mapping[str, PoolConfig]:
        """All pools, of which `pool` is one. Raises CommandError."""
        pools = self._service().snapshot.config.pools
        if pool not in pools:
            known = ", ".join(sorted(pools)) or "none"
            raise exceptions.CommandError(f"authpool.toml configures no pool {pool}; there are: {known}")
        return pools

    def _service(self) -> Service:
        service = self._gateway.service
        if service is None:
            raise exceptions.CommandError("the gateway is not running: the log says why")
        return service

    def _start(
        self, doing: str, account: str, verb: _Verb, *, several: _Verb | None = None, single: bool = False
    ) -> str:
        """Begin something with an account, and say so; whether it is there, the store knows in the end.

        With `several`, as ``POOL/*``, unless it is a verb for a `single` one: nobody can be asked here.
        """
        try:
            key = AccountKey.parse(account)
        except ValueError as error:
            raise exceptions.CommandError(f"{error}: authpool.accounts lists every account") from error
        pool = self._service().snapshot.pools.get(key.pool)
        known = pool is not None and pool.get(key) is not None
        if is_pattern(account) and not known:
            if single:
                raise exceptions.CommandError(
                    "this takes one account here; on the command line several, and asks first"
                )
            self._run(lambda operations: _on_each(operations, account, several or verb))
            return f"{doing} {account}. {_LOG_TELLS}"
        self._run(lambda operations: verb(operations, account))
        doubt = "" if known else ", which is in no pool as far as this gateway knows (authpool.accounts lists all)"
        return f"{doing} {account}{doubt}. {_LOG_TELLS}"

    def _run(self, operation: Callable[[Operations], Awaitable[str]], *, waits_for_person: bool = False) -> None:
        try:
            work = self._report(operation, self._service())
            self._gateway.under_way.begin(work, "an authpool command", waits_for_person=waits_for_person)
        except AuthpoolError as error:
            raise exceptions.CommandError(str(error)) from error

    async def _report(self, operation: Callable[[Operations], Awaitable[str]], service: Service) -> None:
        await self._gateway.until_started()
        await _report(operation, service)


async def _on_each(operations: Operations, pattern: str, verb: _Verb) -> str:
    """Carry a verb out on all accounts that are meant, and tell of each in the log."""

    def hear(one: Outcome) -> None:
        if one.error is None:
            logger.log(told_level(), "%s", one)
        else:
            logger.error("authpool: %s", one)

    outcomes = await each(await operations.matching([pattern]), lambda one: verb(operations, one), heard=hear)
    return f"{pattern}: {sum(one.error is None for one in outcomes)} of {len(outcomes)} done"


async def _report(operation: Callable[[Operations], Awaitable[str]], service: Service) -> None:
    try:
        logger.log(told_level(), "%s", await operation(Operations(service)))
    except asyncio.CancelledError as cancelled:
        for note in getattr(cancelled, "__notes__", ()):
            logger.error("authpool: %s", note)
        raise
    except AuthpoolError as error:
        logger.error("authpool: %s", error)
    except Exception:
        logger.exception("An authpool command failed. authpool.accounts and authpool.history tell how far it came")
