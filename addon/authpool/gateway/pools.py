"""Building the pools of a configuration aside, and putting them in force in one step."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from authpool.accounts.account import AccountKey
from authpool.clock import Clock
from authpool.config import Config
from authpool.config.routing import Router
from authpool.gateway.follower import Follower, broken_reason
from authpool.gateway.pieces import in_pieces, let_go
from authpool.gateway.unconfigured_accounts import UnconfiguredAccounts
from authpool.plugins.manager import Plugins
from authpool.pool.pool import Pool, State
from authpool.pool.report import reload_line
from authpool.refresh.credential_ownership import Ownership
from authpool.refresh.replaced_tokens import TokenRestorer
from authpool.refresh.token_source import TokenSource
from authpool.requests.classifier import Classifier
from authpool.requests.guarded_injector import GuardedInjector
from authpool.store import Record, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Configuration and pools that belong together; replaced as a whole, never changed."""

    config: Config
    router: Router
    pools: Mapping[str, Pool] = field(default_factory=dict)
    classifier: Classifier = field(default_factory=Classifier)
    sources: Mapping[str, TokenSource] = field(default_factory=dict)
    """Where the accounts of a pool get their tokens, by pool, when a plugin provides it."""
    injectors: Mapping[str, GuardedInjector] = field(default_factory=dict)
    """What puts the credentials of a pool on, by pool, when a plugin does."""


class PoolBuilder:
    """Loads the accounts of a configuration and puts them into new pools, while the former ones go on serving.

    `in_force` gives what serves now, `swap` puts what was built in its place.
    """

    def __init__(
        self,
        *,
        store: Store,
        plugins: Plugins,
        clock: Clock,
        ownership: Ownership,
        restorer: TokenRestorer,
        follower: Follower,
        unconfigured: UnconfiguredAccounts,
        in_force: Callable[[], Snapshot],
        swap: Callable[[Snapshot], None],
    ) -> None:
        self._store = store
        self._plugins = plugins
        self._clock = clock
        self._ownership = ownership
        self._restorer = restorer
        self._follower = follower
        self._unconfigured = unconfigured
        self._in_force = in_force
        self._swap = swap

    async def build(self, config: Config) -> None:
        """Build them and put them in force. Raises ConfigurationError or StoreUnavailableError, and changes nothing."""
        # What may fail comes first: what the store tells as changed, `load` too, it tells once.
        sources = self._plugins.token_sources(config.pools)
        injectors = self._plugins.injectors(config.pools)
        classifier = self._plugins.classifier(injectors)
        pools = {
            name: Pool(pool_config, partial(self._plugins.rotation, pool_config), self._clock)
            for name, pool_config in config.pools.items()
        }
        async with self._follower.alone:  # and nobody else asks it before the new pools are in force
            known = {key: record async for key, record in _records(self._in_force().pools)}
            loaded = await self._ownership.load(await self._store.load(config.pools.keys()), config.pools, known=known)
            await self._unconfigured.look(config.pools)
            await self._fill(pools, loaded, known)
            replaced = [member for pool in self._in_force().pools.values() for member in pool]
            self._inherit(pools, known)
            for key in known.keys() - loaded.keys():
                self._restorer.removed(key)
            self._swap(
                Snapshot(
                    config=config,
                    router=Router(config.pools.values()),
                    pools=pools,
                    sources=sources,
                    injectors=injectors,
                    classifier=classifier,
                )
            )
        await let_go(replaced)

    async def _fill(
        self, pools: Mapping[str, Pool], loaded: Mapping[AccountKey, Record], known: Mapping[AccountKey, Record]
    ) -> None:
        async for key, loaded_record in in_pieces(loaded.items()):
            record = self._restorer.ahead(loaded_record)
            self._restorer.compare(known.get(key), record)
            pools[key.pool].put(record)

    def _inherit(self, pools: Mapping[str, Pool], known: Mapping[AccountKey, Record]) -> None:
        """Give the new pools what only this process knows of the accounts, in the step that puts them in force."""
        former = self._in_force().pools
        for name in pools.keys() & former.keys():
            pool = pools[name]
            for key, member in former[name].items():  # what changed in memory meanwhile is newer than what was read
                if known.get(key) is not member.record and pool.get(key) is not None:
                    pool.put(member.record)
            pool.inherit(former[name])

    async def tell(self) -> None:
        """Say which accounts nobody keeps, who is left out, and how the pools stand: the lines operators look for."""
        self._unconfigured.tell()
        for pool in self._in_force().pools.values():
            await self._tell(pool)

    async def _tell(self, pool: Pool) -> None:
        now = self._clock.time()
        left_out = pool.counts().keys() & {State.DISABLED, State.BROKEN, State.SEALED}
        async for member in in_pieces(list(pool) if left_out else ()):
            match member.state(now):
                case State.DISABLED:
                    self._follower.tell_disabled(member.account)
                case State.BROKEN:  # a warning: mitmproxy ends when an error is logged while it starts
                    logger.warning(
                        "Skipping broken account %s: %s", member.record.address, broken_reason(member.record)
                    )
                case State.SEALED:
                    logger.warning(
                        "Skipping sealed account %s: %s", member.record.address, broken_reason(member.record)
                    )
        logger.info(reload_line(pool.config.name, pool.counts()))


async def _records(pools: Mapping[str, Pool]) -> AsyncIterator[tuple[AccountKey, Record]]:
    for pool in pools.values():
        async for key, member in in_pieces(list(pool.items())):
            yield key, member.record
