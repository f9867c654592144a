"""A gateway's process in miniature, which can be killed at any step of a refresh."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.events import AccountEvent
from authpool.clock import Clock
from authpool.config.pool_config import PoolConfig
from authpool.errors import StoreError
from authpool.gateway.follower import Follower
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.token_client import ANSWER_SECONDS, CONNECT_SECONDS
from authpool.oauth.verdict import Answer, ReplyLost
from authpool.pool.pool import Pool
from authpool.refresh.credential_ownership import Ownership
from authpool.refresh.outcome import Outcome, Ready
from authpool.refresh.refresher import Refresher
from authpool.refresh.replaced_tokens import TokenRestorer
from authpool.refresh.schedule import RefreshSchedule
from authpool.store.folder.store import FolderStore
from authpool.store.trail_index import TrailIndex
from authpool.verbs.holdings import Holdings
from authpool.verbs.moving import Moving
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.reviving import Reviving
from authpool_round_robin import RoundRobin
from support.crashing_files import Crash, Disk, DyingFiles
from support.crashing_trail import CrashingTrail

ACCOUNTS = "accounts"
"""The folder of accounts in a home."""
PATIENCE_SECONDS = 1.0
"""So long a command waits for an account that others hold."""


async def inline[T](function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Run file work where it stands."""
    return function(*arguments, **keywords)


async def no_discovery(_url: str) -> tuple[int, bytes]:
    """Nothing is to be discovered here."""
    raise OSError("there is no issuer")


@dataclass(slots=True, kw_only=True, eq=False)
class Flying:
    """A POST that was sent and not answered yet."""

    process: "CrashingProcess"
    key: AccountKey
    """The account for which it is presented: a copy's token names another one."""
    form: Mapping[str, str] = field(repr=False)
    landed: "asyncio.Future[Answer]" = field(repr=False)

    @property
    def refresh_token(self) -> str:
        return self.form["refresh_token"]


class CrashingProcess:
    """One Refresher on one FolderStore of its own, in a home. `posted` hears of each POST and decides when it ends."""

    def __init__(
        self,
        home: Path,
        disk: Disk,
        clock: Clock,
        pools: Mapping[str, PoolConfig],
        posted: Callable[[Flying], None],
        *,
        gateway: bool = False,
    ) -> None:
        """A `gateway` follows the folder, and refreshes what is due, from its first `load` on."""
        self.gateway = gateway
        self.files = DyingFiles(disk, self.crash)
        self.store = FolderStore(home / ACCOUNTS, run=inline, files=self.files, sleep=clock.sleep)
        self.seen: dict[AccountKey, Account] = {}
        self._left_behind: set[tuple[AccountKey, str]] = set()
        """Refresh tokens that it saw replaced, by account: none is one to present there, whoever brings it back."""
        self.aware: set[str] = set()
        """What the audit trail told it, by fingerprint, before somebody put an older trail in its place."""
        self.noted: set[str] = set()
        """What it exchanged itself, by fingerprint, also where the trail could not be written."""
        self._posted = posted
        self._callers: set[asyncio.Task[Outcome]] = set()
        self._audit = CrashingTrail(home, clock, "gateway" if gateway else "command line", self.files)
        self._trail_index = TrailIndex(self.store)
        self.ownership = Ownership(
            store=self.store,
            trail=self._trail_index,
            pools=lambda: pools,
            clock=clock,
            notify=self._notify,
            unwritten=lambda key: self.refresher.unwritten(key),  # noqa: PLW0108 - the refresher comes next
            learn=lambda spent, newest: self.refresher.replaced(spent, newest),  # noqa: PLW0108 - likewise
        )
        self.refresher = Refresher(
            store=self.store,
            endpoint=self,
            resolver=EndpointResolver(no_discovery),
            pools=lambda: pools,
            clock=clock,
            settled=self._settled,
            notify=self._notify,
            everyone=self._everyone,
            rng=Random(0),
            may_present=self.ownership.check,
            is_spent=self.ownership.is_spent,
        )
        self._home = home
        self._clock = clock
        self._configs = pools
        self._served = {name: Pool(config, RoundRobin, clock) for name, config in pools.items()}
        self._restorer = TokenRestorer(self.refresher)
        self._schedule = RefreshSchedule(lambda: self._served, self.refresher, clock, Random(0))
        self._follower = Follower(
            lambda: self._served, self.store, self.refresher, self._restorer, self._schedule, clock, self.ownership
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def dead(self) -> bool:
        return self.files.dead

    async def post(self, _url: str, form: Mapping[str, str], _headers: Mapping[str, str]) -> Answer:
        ours = asyncio.current_task()
        key = next(key for key, flight in self.refresher._flights.items() if flight is ours)
        flying = Flying(process=self, key=key, form=form, landed=asyncio.get_running_loop().create_future())
        self._posted(flying)
        try:
            async with asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS):
                return await flying.landed
        except TimeoutError:  # it never comes to its end, as far as anybody knows
            return ReplyLost(detail="the answer did not arrive")

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        raise NotImplementedError

    async def load(self) -> None:
        """Take in the accounts as they are stored, as a start and a reload do."""
        self.refresher.forget_faults()
        if not self.gateway:
            self._take_in(await self.store.load(list(self._configs)))
            return
        async with self._follower.alone:
            known = {member.key: member.record for pool in self._served.values() for member in pool}
            loaded = await self.ownership.load(await self.store.load(list(self._configs)), self._configs, known=known)
            for key in known.keys() - loaded.keys():
                self.refresher.removed(key)
                self._served[key.pool].remove(key)
            for key, record in loaded.items():
                ahead = self._restorer.ahead(record)
                self._restorer.compare(known.get(key), ahead)
                self._schedule.plan(self._served[key.pool].put(ahead))
        self._see()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._schedule.run()), asyncio.create_task(self._follow_on())]

    def _notify(self, event: AccountEvent) -> None:
        entry = self._audit.record(event)
        if entry is not None:
            self._trail_index.note(entry)
            self.noted |= {entry.replaced or ""}

    async def follow(self) -> None:
        if self.gateway:
            await self._follower.catch_up()
            self._see()
        else:
            self._take_in(await self.store.changes())

    async def _follow_on(self) -> None:
        while True:
            await self._clock.sleep(0.5)
            self.flush_trail()
            with suppress(StoreError):
                await self.follow()

    def flush_trail(self) -> None:
        """Write down what could not be written when it happened."""
        self._audit.flush()

    async def _everyone(self) -> list[Account]:
        await self.follow()
        return list(self.seen.values())

    def _see(self) -> None:
        """What is in the pools is what this process saw last."""
        accounts = [m.record for pool in self._served.values() for m in pool if isinstance(m.record, Account)]
        for account in accounts:
            self._leave_behind(account)
        self.seen = {account.key: account for account in accounts}

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._restorer.aclose()
        await self.ownership.aclose()
        await self.refresher.aclose()

    def request(self, account: Account, **how: Any) -> asyncio.Task[Outcome]:
        """Begin a refresh, as it is begun for a request."""
        caller = asyncio.ensure_future(self.refresher.refresh(account, **how))
        self._callers.add(caller)
        caller.add_done_callback(self._callers.discard)
        return caller

    async def move(self, key: AccountKey, pool: str) -> None:
        """The verb `move`, as the command line does it."""
        await Moving(self._service(), self._holdings()).move(str(key), pool)

    async def enable_by_force(self, key: AccountKey) -> None:
        """The verb `enable --force`, likewise."""
        holdings = self._holdings()
        await Reviving(self._service(), holdings, RescuedTokens(self._home, run=inline)).enable_by_force(
            await self.store.read(key)
        )

    def _holdings(self) -> Holdings:
        return Holdings(self._service(), patience_seconds=PATIENCE_SECONDS)

    def _service(self) -> Any:
        """As much of a Service as those verbs touch."""
        return SimpleNamespace(
            store=self.store,
            notify=self._notify,
            snapshot=SimpleNamespace(pools={}, config=SimpleNamespace(pools=self._configs)),
            ownership=self.ownership,
        )

    def unwritten(self, key: AccountKey) -> Account | None:
        return self.refresher._pending_writes.get(key)

    @property
    def busy(self) -> bool:
        under_way = any(not caller.done() for caller in self._callers)
        return bool(under_way or self.refresher._flights or self.refresher._pending_writes._unwritten)

    @property
    def unwritten_keys(self) -> list[AccountKey]:
        return list(self.refresher._pending_writes._unwritten)

    def crash(self) -> None:
        """End as by SIGKILL: no handler tidies up, and the kernel lets go of the locks."""
        self.files.dead = True
        ours = [*self._callers, *self.refresher._flights.values(), *self.refresher._pending_writes._tasks]
        ours += [self.ownership.notes.writing] if self.ownership.notes.writing is not None else []
        for task in [*ours, *self._tasks, *self._schedule._flights.tasks, *self._restorer._tasks]:
            if task is not asyncio.current_task():
                task.cancel()
        raise Crash

    def _settled(self, key: AccountKey, outcome: Outcome) -> None:
        if self.gateway:
            self._schedule.settle(key, outcome)
        if isinstance(outcome, Ready):
            self._leave_behind(outcome.account)
            self.seen[key] = outcome.account

    def _take_in(self, records: Mapping[AccountKey, Any]) -> None:
        for key, record in records.items():
            former = self.seen.get(key)
            if isinstance(record, Account):
                if former is None:
                    self.refresher.loaded(record)
                elif former != record:
                    self.refresher.followed(former, record)
                self._leave_behind(record)
                self.seen[key] = record
            else:
                self.seen.pop(key, None)
                self.refresher.removed(key)

    def _leave_behind(self, account: Account) -> None:
        former = self.seen.get(account.key)
        if former is not None and account.generation > former.generation:
            replaced = {former.token.refresh_token or ""} - {account.token.refresh_token or ""}
            self._left_behind |= {(account.key, token) for token in replaced}

    def left_behind(self, key: AccountKey, token: str | None) -> bool:
        """Whether it saw that refresh token of the account replaced."""
        return (key, token or "") in self._left_behind
