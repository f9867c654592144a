"""A running gateway without mitmproxy: the parts put together, the pools swapped on reload, the store followed."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.events import AccountEvent
from authpool.clock import Clock, SystemClock
from authpool.config import CONFIG_NAME, Config, PoolConfig, load_config
from authpool.config.routing import Router
from authpool.errors import ConfigurationError, StoreUnavailableError, mistakes_placed
from authpool.files.blocking import BlockingCalls
from authpool.files.home import check_home
from authpool.gateway.client_keys import ClientKeys
from authpool.gateway.follower import Follower
from authpool.gateway.lost_configuration import refuse_lost
from authpool.gateway.own_trail import OwnTrail
from authpool.gateway.pieces import MANY_ACCOUNTS, loaded_for_good
from authpool.gateway.pools import PoolBuilder, Snapshot
from authpool.gateway.presence import Reloaded
from authpool.gateway.reload_requests import ReloadRequests
from authpool.gateway.sealed_store import sealed
from authpool.gateway.unconfigured_accounts import UnconfiguredAccounts
from authpool.gateway.upkeep import Upkeep
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.token_client import TokenClient, TokenEndpoint, fetcher
from authpool.plugins.manager import load_plugins, refuse_another_store
from authpool.pool.pool import Pool
from authpool.refresh.credential_ownership import Ownership
from authpool.refresh.outcome import Outcome
from authpool.refresh.refresher import Refresher
from authpool.refresh.replaced_tokens import TokenRestorer
from authpool.refresh.schedule import RefreshSchedule
from authpool.requests.account_picker import AccountPicker
from authpool.requests.exhaustion import Exhaustion
from authpool.requests.failover import Failover
from authpool.requests.limits import Limits
from authpool.requests.readiness import Readiness
from authpool.store import SealsSecrets, Store
from authpool.store.audit import ProcessKind

logger = logging.getLogger(__name__)


class Service:
    """Everything a gateway does that is not mitmproxy. Raises ConfigurationError when it can't be put together."""

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        *,
        clock: Clock | None = None,
        endpoint: TokenEndpoint | None = None,
        store: Store | None = None,
        accept: Callable[[Config], None] = lambda config: None,
        applied: Callable[[Config], None] = lambda config: None,
        reloaded: Callable[[Reloaded], None] = lambda reloaded: None,
        process: ProcessKind = "gateway",
        plugins: Sequence[str] = (),
    ) -> None:
        """`accept` may raise ConfigurationError for a configuration that does not fit where the gateway runs.

        It changes nothing; `applied` is told of a configuration that is in force, and `reloaded` of what a start or a
        reload did.
        `process` is what the audit trail calls this process. `plugins` are files and modules named by option.
        """
        self.home = home
        self._accept = accept
        self._applied = applied
        self._reloaded = reloaded
        self._environ = environ
        self.clock = clock or SystemClock()
        self.plugins = load_plugins(home, environ, plugins)
        self._secrets_later = process != "gateway"
        self._requests = ReloadRequests(home)
        with mistakes_placed(home):
            config = load_config(home, environ, self.plugins, secrets_later=self._secrets_later)
            accept(config)
            self._snapshot = Snapshot(
                config=config,
                router=Router(config.pools.values()),
                sources=self.plugins.token_sources(config.pools),
                injectors=self.plugins.injectors(config.pools),
            )
            self.store = self._sealed(store or self.plugins.store(config.gateway, home), config)
        self.trail = OwnTrail(self.store, self.clock, process)
        self.clients = ClientKeys(self.store, self.clock, self.trail.note, self.trail.process)
        self._own_client = TokenClient() if endpoint is None else None
        self.endpoint: TokenEndpoint = endpoint or self._own_client  # type: ignore[assignment]
        self.resolver = EndpointResolver(fetcher(self.endpoint), self.clock)
        self.run = BlockingCalls(str(home))
        """Runs what blocks, but for the store's own work: see `authpool.files.blocking`."""
        self.unconfigured = UnconfiguredAccounts(self.store, partial(self.run, self._another_view))
        self.ownership = Ownership(
            store=self.store,
            trail=self.trail.index,
            pools=self._configured_pools,
            clock=self.clock,
            notify=self.notify,
            unwritten=lambda key: self.refresher.unwritten(key),  # noqa: PLW0108 - the refresher comes next
            learn=lambda spent, newest: self.refresher.replaced(spent, newest),  # noqa: PLW0108 - likewise
        )
        self.refresher = Refresher(
            store=self.store,
            endpoint=self.endpoint,
            resolver=self.resolver,
            pools=self._configured_pools,
            sources=lambda: self._snapshot.sources,
            clock=self.clock,
            notify=self.notify,
            # The command line would tell of a begin, and be gone before the end.
            notify_pool=self.plugins.notify_pool if process == "gateway" else lambda event: None,
            settled=self._settle,
            everyone=self._everyone,
            may_present=self.ownership.check,
            is_spent=self.ownership.is_spent,
        )
        self._limits = Limits(self.store, self.clock, self.notify)
        exhaustion = Exhaustion(self.plugins.notify_exhausted, self.clock)
        self.picker = AccountPicker(self._pools, self.refresher, self.clock, exhaustion.tell)
        self.readiness = Readiness(self._pools, self.refresher, self.resolver, self.clock)
        self._restorer = TokenRestorer(self.refresher)
        self._schedule = RefreshSchedule(self._pools, self.refresher, self.clock)
        self.failover = Failover(
            self._pools, self.picker, self.refresher, self._limits, self.clock, plan=self._schedule.plan
        )
        self._follower = Follower(
            self._pools, self.store, self.refresher, self._restorer, self._schedule, self.clock, self.ownership
        )
        self._builder = PoolBuilder(
            store=self.store,
            plugins=self.plugins,
            clock=self.clock,
            ownership=self.ownership,
            restorer=self._restorer,
            follower=self._follower,
            unconfigured=self.unconfigured,
            in_force=lambda: self._snapshot,
            swap=self._swap,
        )
        self._upkeep = Upkeep(
            pools=self._pools,
            store=self.store,
            take_in=self._take_in,
            follow_keys=self.clients.follow,
            schedule=self._schedule,
            limits=self._limits,
            clock=self.clock,
        )
        self._reloading = asyncio.Lock()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    async def start(self) -> None:
        """Load the accounts and begin to keep them. Raises StoreUnavailableError."""
        await self.open()
        await self.clients.load()
        with loaded_for_good(self._many):
            await self._build(self._snapshot.config)
        self._reloaded(Reloaded(request=self._requests.answered, seal_key=self._opener()))
        self._upkeep.start()

    async def open(self) -> None:
        """Begin with the store; `start` does it too. Raises StoreUnavailableError."""
        await self.store.open()
        await self._requests.begin(self.store)

    async def stop(self, land: Callable[[], Awaitable[None]] | None = None) -> None:
        """Stop following, let refreshes land, close connections.

        `land` waits for what others do with this service, when it begins nothing by itself any more, and before
        anything is closed.
        """
        await self._upkeep.stop()
        if land is not None:
            await land()
        await self.clients.aclose()
        await self._restorer.aclose()
        await self.ownership.aclose()
        await self.refresher.aclose()
        await self._limits.aclose()
        await self.resolver.aclose()
        if self._own_client is not None:
            await self._own_client.aclose()
        await self.store.aclose()
        with contextlib.suppress(StoreUnavailableError):  # a plugin that hangs: its thread is a daemon
            await self.run(self.plugins.close)

    async def reload(self, *, forced: bool = False) -> None:
        """Re-read configuration and accounts, build the new pools aside and swap them in.

        One that would drop pools which are in use has to be `forced`, here or by who asked through the store.
        Raises ConfigurationError or StoreUnavailableError; then everything stays as it was.
        """
        async with self._reloading:
            try:
                forced = await self._requests.answer(self.store) or forced
                with mistakes_placed(self.home):
                    await self._read_anew(forced=forced)
            except BaseException as error:
                self.plugins.restore(self._snapshot.config.plugins, self.home)
                self._reloaded(Reloaded.refused(self._requests.answered, error, self._opener()))
                raise
            self._applied(self._snapshot.config)
            self._reloaded(Reloaded(request=self._requests.answered, seal_key=self._opener()))
            await self._upkeep.plan()

    async def _read_anew(self, *, forced: bool) -> None:
        """Read everything, check all of it, and only then put it in force."""
        check_home(self.home)
        config = load_config(self.home, self._environ, self.plugins, secrets_later=self._secrets_later)
        refuse_another_store(self._snapshot.config.gateway, config.gateway)
        self._accept(config)
        if not forced:
            await refuse_lost(self._snapshot.config, config, self.unconfigured)
        await self.run(self._sealed, self.store, config)
        await self._build(config)

    def notify(self, event: AccountEvent) -> None:
        """Tell of a change in an account's life, after it was written: the audit trail first, then the plugins."""
        self.trail.note_account(event)
        if event.kind == "disabled":
            self._follower.disabled_here(event.account)
        self.plugins.notify(event)

    async def _build(self, config: Config) -> None:
        await self._builder.build(config)
        if not config.pools:
            logger.warning("%s configures no pool: every request passes untouched", self.home / CONFIG_NAME)
        await self._builder.tell()

    def _sealed(self, store: Store, config: Config) -> Store:
        """A gateway has the key or does not run; the command line shows what can be shown without."""
        return sealed(store, config.gateway.seal_key, must_open=not self._secrets_later)

    def _opener(self) -> str:
        return self.store.opener if isinstance(self.store, SealsSecrets) else ""

    def require_seal_key(self) -> None:
        """See whether a gateway could start with the key that is configured. Raises ConfigurationError."""
        with mistakes_placed(self.home):
            sealed(self.store, self._snapshot.config.gateway.seal_key, must_open=True)

    def _another_view(self) -> Store:
        gateway = self._snapshot.config.gateway
        return sealed(self.plugins.store(gateway, self.home), gateway.seal_key, must_open=False)

    def _swap(self, snapshot: Snapshot) -> None:
        """Let what was built be what counts; clients and issuers get another chance."""
        self.refresher.forget_faults()
        self.resolver.forget()
        self._snapshot = snapshot
        self.resolver.ask_ahead(snapshot.config.pools.values())

    # --- following --------------------------------------------------------------------------------------------

    async def _take_in(self) -> None:
        if await self._requests.came(self.store, self.run):
            await self.reload()
        else:
            await self.catch_up()

    async def catch_up(self) -> None:
        """Take in what changed in the store, by anybody's hand. Raises StoreUnavailableError."""
        await self._follower.catch_up()

    async def _everyone(self) -> list[Account]:
        """Every account of the configured pools, as the store has it now."""
        if self._snapshot.pools:
            await self.catch_up()
            records = [member.record for pool in self._snapshot.pools.values() for member in pool]
        else:  # the command line, which follows nothing
            records = list((await self.store.load(self._snapshot.config.pools.keys())).values())
        return [record for record in records if isinstance(record, Account)]

    def _settle(self, key: AccountKey, outcome: Outcome) -> None:
        self._schedule.settle(key, outcome)
        self._follower.landed(key)

    def _many(self) -> bool:
        return sum(map(len, self._pools().values())) >= MANY_ACCOUNTS

    def _pools(self) -> Mapping[str, Pool]:
        return self._snapshot.pools

    def _configured_pools(self) -> Mapping[str, PoolConfig]:
        return self._snapshot.config.pools


__all__ = ["ConfigurationError", "Service", "Snapshot"]
