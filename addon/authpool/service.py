"""A running gateway without mitmproxy: the parts put together, the pools swapped on reload, the store followed."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from authpool.account import AccountKey
from authpool.audit import AuditTrail, ProcessKind
from authpool.broker import Broker
from authpool.classifier import Classifier
from authpool.clock import Clock, SystemClock
from authpool.config import CONFIG_NAME, Config, PoolConfig, load_config
from authpool.config.discovery import EndpointResolver
from authpool.config.routing import Router
from authpool.errors import AuthpoolError, ConfigurationError, StoreUnavailableError
from authpool.events import AccountEvent
from authpool.exhaustion import Exhaustion
from authpool.failover import Failover
from authpool.follower import Follower, broken_reason
from authpool.health import is_dry
from authpool.keeper import Keeper
from authpool.limits import Limits
from authpool.ownership import Ownership
from authpool.plugins import load_plugins, refuse_another_store
from authpool.pool import Pool, State
from authpool.refresh.healer import Healer
from authpool.refresh.outcome import Outcome
from authpool.refresh.refresher import Refresher
from authpool.refresh.token_client import TokenClient, TokenEndpoint, fetcher
from authpool.report import disabled_line, reload_line
from authpool.store import Store
from authpool.token_source import TokenSource
from authpool.trail_index import TrailIndex
from authpool.unconfigured import UnconfiguredAccounts

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = (0.25, 0.7)
FOLLOW_SHARE = 0.05
"""The store is asked what changed in these intervals, the longer the more there is to look at, so that looking takes a
small share of a core; a change by anybody's hand is in the pool within a second."""
EDITOR_SECONDS = 0.1
"""An editor that saves by renaming leaves a moment without a file: no account is believed gone before this."""
RELOAD_MARKER = ".reload"
"""Touched by `authpool reload`: every gateway on the home reloads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Configuration and pools that belong together; replaced as a whole, never changed."""

    config: Config
    router: Router
    pools: Mapping[str, Pool] = field(default_factory=dict)
    classifier: Classifier = field(default_factory=Classifier)
    sources: Mapping[str, TokenSource] = field(default_factory=dict)
    """Where the accounts of a pool get their tokens, by pool, when a plugin provides it."""


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
        process: ProcessKind = "gateway",
        plugins: Sequence[str] = (),
    ) -> None:
        """`accept` may raise ConfigurationError for a configuration that does not fit where the gateway runs.

        `process` is what the audit trail calls this process. `plugins` are files and modules named by option.
        """
        self.home = home
        self._accept = accept
        self._environ = environ
        self.clock = clock or SystemClock()
        self.plugins = load_plugins(home, environ, plugins)
        self._secrets_later = process != "gateway"
        config = load_config(home, environ, self.plugins, secrets_later=self._secrets_later)
        self.plugins.configure(config.plugins, home)
        self._audit = AuditTrail(home, self.clock, process)
        self._snapshot = Snapshot(
            config=config, router=Router(config.pools.values()), sources=self.plugins.token_sources(config.pools)
        )
        self._own_client = TokenClient() if endpoint is None else None
        self.endpoint: TokenEndpoint = endpoint or self._own_client  # type: ignore[assignment]
        self.store = store or self.plugins.store(config.gateway, home)
        self.resolver = EndpointResolver(fetcher(self.endpoint))
        self.unconfigured = UnconfiguredAccounts(self.store, lambda: self.plugins.store(config.gateway, home))
        self.ownership = Ownership(
            store=self.store,
            trail=TrailIndex(home),
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
            settled=self._settle,
            news=self.catch_up,
            may_present=self.ownership.check,
        )
        self._limits = Limits(self.store, self.clock, self.notify)
        exhaustion = Exhaustion(self.plugins.notify_exhausted, self.clock)
        self.broker = Broker(self._pools, self.refresher, self.clock, exhaustion.tell)
        self.failover = Failover(self._pools, self.broker, self.refresher, self._limits, self.clock)
        self._healer = Healer(self.refresher)
        self._keeper = Keeper(self._pools, self.refresher, self.clock)
        self._follower = Follower(
            self._pools, self.store, self.refresher, self._healer, self._keeper, self.clock, self.ownership
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._marks: tuple[object, ...] = ()
        self._reloading = asyncio.Lock()
        self._store_trouble = ""

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    async def start(self) -> None:
        """Load the accounts and begin to keep them. Raises StoreUnavailableError."""
        self._marks = self._current_marks()
        await self._build(self._snapshot.config)
        self._tasks = [
            asyncio.create_task(self._follow(), name="authpool follow"),
            asyncio.create_task(self._keeper.run(), name="authpool keeper"),
        ]

    async def stop(self) -> None:
        """Stop following, let refreshes land, close connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._healer.aclose()
        await self.ownership.aclose()
        await self.refresher.aclose()
        await self._limits.aclose()
        await self.resolver.aclose()
        if self._own_client is not None:
            await self._own_client.aclose()
        await asyncio.to_thread(self.plugins.close)

    async def reload(self) -> None:
        """Re-read configuration and accounts, build the new pools aside and swap them in.

        Raises ConfigurationError or StoreUnavailableError; then everything stays as it was.
        """
        async with self._reloading:
            self._marks = self._current_marks()
            config = load_config(self.home, self._environ, self.plugins, secrets_later=self._secrets_later)
            refuse_another_store(self._snapshot.config.gateway, config.gateway)
            self._accept(config)
            self.plugins.configure(config.plugins, self.home)
            self.refresher.forget_faults()
            self.resolver.forget()
            await self._build(config)

    def notify(self, event: AccountEvent) -> None:
        """Tell of a change in an account's life, after it was written: the audit trail first, then the plugins."""
        self._audit.record(event)
        self.plugins.notify(event)

    def dry_pools(self) -> list[str]:
        """The pools whose client the token endpoint rejects, and where no access token is left to serve with."""
        now = self.clock.time()
        pools = self._snapshot.pools
        return [name for name, pool in pools.items() if self.refresher.fault(name) is not None and is_dry(pool, now)]

    # --- building and swapping --------------------------------------------------------------------------------

    async def _build(self, config: Config) -> None:
        sources = self.plugins.token_sources(config.pools)  # first: what the store tells as changed it tells once
        former = self._snapshot.pools
        known = {member.key: member.record for pool in former.values() for member in pool}
        loaded = await self.store.load(config.pools.keys())
        loaded = await self.ownership.load(loaded, config.pools, known=known)
        records = {key: self._healer.ahead(record) for key, record in loaded.items()}
        self._healer.compare_all(known, records)
        for pool in former.values():
            for member in pool:  # what changed in memory while the store was read is newer than what was read
                if member.key in records and known.get(member.key) is not member.record:
                    records[member.key] = member.record
        await self.unconfigured.look(config.pools)
        pools = {
            name: Pool(
                pool_config,
                partial(self.plugins.rotation, pool_config),
                self.clock,
                (record for key, record in records.items() if key.pool == name),
            )
            for name, pool_config in config.pools.items()
        }
        for name, pool in pools.items():
            if name in former:
                pool.inherit(former[name])
        self._snapshot = Snapshot(
            config=config,
            router=Router(config.pools.values()),
            pools=pools,
            sources=sources,
            classifier=self.plugins.classifier(),
        )
        self.unconfigured.tell()
        if not pools:
            logger.warning("%s configures no pool: every request passes untouched", self.home / CONFIG_NAME)
        for pool in pools.values():
            for member in pool:
                self._keeper.plan(member)
            self._tell(pool)

    def _tell(self, pool: Pool) -> None:
        """Say who is left out, and how the pool stands: the lines operators look for."""
        now = self.clock.time()
        for member in pool:
            match member.state(now):
                case State.DISABLED:
                    logger.warning(disabled_line(member.account))
                case State.BROKEN:  # a warning: mitmproxy ends when an error is logged while it starts
                    logger.warning(
                        "Skipping broken account %s: %s", member.record.address, broken_reason(member.record)
                    )
        logger.info(reload_line(pool.config.name, pool.counts()))

    # --- following --------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        pause, longest = FOLLOW_SECONDS
        while True:
            await self.clock.sleep(pause)
            began = self.clock.monotonic()
            try:
                marks = await asyncio.to_thread(self._current_marks)
                if marks != self._marks:
                    await self.reload()
                else:
                    await self.catch_up(patience_seconds=EDITOR_SECONDS)
                self._limits.take_back(self._pools().values())
                if self._store_trouble:
                    self._store_trouble = ""
                    logger.warning("The accounts can be read again")
            except StoreUnavailableError as error:
                if str(error) != self._store_trouble:  # once, not every time
                    self._store_trouble = str(error)
                    logger.error("The accounts can't be read; the pool goes on with what it has: %s", error)
            except AuthpoolError as error:
                logger.error("%s The old configuration stays in force.", error)
            except Exception:
                logger.exception("Following the store failed; it goes on")
            pause = min(longest, max(FOLLOW_SECONDS[0], (self.clock.monotonic() - began) / FOLLOW_SHARE))

    async def catch_up(self, patience_seconds: float = 0.0) -> None:
        """Take in what changed in the store, by anybody's hand; after a second look where something is gone."""
        await self._follower.catch_up(patience_seconds)

    def _settle(self, key: AccountKey, outcome: Outcome) -> None:
        self._keeper.settle(key, outcome)

    def _current_marks(self) -> tuple[object, ...]:
        marks: list[object] = []
        for name in (CONFIG_NAME, RELOAD_MARKER):
            with contextlib.suppress(OSError):
                stat = (self.home / name).stat()
                marks.append((name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(marks)

    def _pools(self) -> Mapping[str, Pool]:
        return self._snapshot.pools

    def _configured_pools(self) -> Mapping[str, PoolConfig]:
        return self._snapshot.config.pools


__all__ = ["ConfigurationError", "Service", "Snapshot"]
