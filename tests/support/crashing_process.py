"""A gateway's process in miniature, which can be killed at any step of a refresh."""

import asyncio
import errno
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from authpool.accounts.account import Account, AccountKey
from authpool.clock import Clock
from authpool.config.pool_config import PoolConfig
from authpool.errors import StoreError
from authpool.files.atomic_file import StrPath
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
from authpool.store import Record
from authpool.store.folder.store import FolderStore
from authpool_round_robin import RoundRobin
from support.file_operations import InterruptedFiles


class Crash(BaseException):
    """The process is gone; as with SIGKILL, nobody handles it."""


async def inline[T](function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Run file work where it stands."""
    return function(*arguments, **keywords)


async def no_discovery(_url: str) -> tuple[int, bytes]:
    """Nothing is to be discovered here."""
    raise OSError("there is no issuer")


@dataclass(slots=True, kw_only=True)
class Disk:
    """The disk that all processes share; `trouble` is the errno that each write ends in, None: it works."""

    trouble: int | None = None


class DyingFiles(InterruptedFiles):
    """System calls that fail with the disk, end with the process, and kill it at a chosen step of a later write."""

    def __init__(self, disk: Disk, die: Callable[[], None]) -> None:
        super().__init__(None, die)
        self.dead = False
        self.writes_left = 0
        self._disk = disk

    def read(self, path: StrPath) -> bytes:
        self._alive()
        return super().read(path)

    def unlink(self, path: Path) -> None:
        self._alive()
        super().unlink(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._at("write")
        half = os.write(descriptor, data[: len(data) // 2])
        self._at("half a write")
        return half + os.write(descriptor, data[half:])

    def _at(self, step: str) -> None:
        self._alive()
        if self.step == step and self.writes_left == 0:
            self._interrupt()
        if step == "fsync_folder" and self.step is not None:
            self.writes_left -= 1
        if step == "create" and self._disk.trouble == errno.EROFS:
            raise OSError(errno.EROFS, "Read-only file system")
        if step == "half a write" and self._disk.trouble == errno.ENOSPC:
            raise OSError(errno.ENOSPC, "No space left on device")
        if step == "fsync_folder" and self._disk.trouble == errno.EIO:
            raise OSError(errno.EIO, "Input/output error")

    def _alive(self) -> None:
        if self.dead:
            raise Crash


@dataclass(slots=True, kw_only=True, eq=False)
class Flying:
    """A POST that was sent and not answered yet."""

    process: "CrashingProcess"
    form: Mapping[str, str] = field(repr=False)
    landed: "asyncio.Future[Answer]" = field(repr=False)

    @property
    def refresh_token(self) -> str:
        return self.form["refresh_token"]


class Anybody(Ownership):
    """Whoever holds a credential may present it: copies into other pools are not of this world."""

    def __init__(self) -> None:
        """Nothing is judged, so nothing is needed."""

    async def follow(
        self, changes: Mapping[AccountKey, Record | None], known: Callable[[AccountKey], Record | None]
    ) -> dict[AccountKey, Record | None]:
        return dict(changes)


class CrashingProcess:
    """One Refresher on one FolderStore of its own. `posted` hears of each POST and decides when it is answered."""

    def __init__(
        self,
        folder: Path,
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
        self.store = FolderStore(folder, run=inline, files=self.files, sleep=clock.sleep)
        self.seen: dict[AccountKey, Account] = {}
        self.left_behind: set[str] = set()
        """Refresh tokens that this process saw replaced: none of them is one to present, whoever brings it back."""
        self._posted = posted
        self._callers: set[asyncio.Task[Outcome]] = set()
        self.refresher = Refresher(
            store=self.store,
            endpoint=self,
            resolver=EndpointResolver(no_discovery),
            pools=lambda: pools,
            clock=clock,
            settled=self._settled,
            everyone=self._everyone,
            rng=Random(0),
        )
        self._clock = clock
        self._configs = pools
        self._served = {name: Pool(config, RoundRobin, clock) for name, config in pools.items()}
        self._restorer = TokenRestorer(self.refresher)
        self._schedule = RefreshSchedule(lambda: self._served, self.refresher, clock, Random(0))
        self._follower = Follower(
            lambda: self._served, self.store, self.refresher, self._restorer, self._schedule, clock, Anybody()
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def dead(self) -> bool:
        return self.files.dead

    async def post(self, _url: str, form: Mapping[str, str], _headers: Mapping[str, str]) -> Answer:
        flying = Flying(process=self, form=form, landed=asyncio.get_running_loop().create_future())
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
        records = await self.store.load(list(self._configs))
        self.refresher.forget_faults()
        if not self.gateway:
            self._take_in(records)
            return
        for pool in self._served.values():
            for member in list(pool):
                if member.key not in records:
                    self.refresher.removed(member.key)
                    pool.remove(member.key)
        for key, record in records.items():
            served = self._served[key.pool]
            member = served.get(key)
            ahead = self._restorer.ahead(record)
            self._restorer.compare(None if member is None else member.record, ahead)
            self._schedule.plan(served.put(ahead))
        self._see()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._schedule.run()), asyncio.create_task(self._follow_on())]

    async def follow(self) -> None:
        if self.gateway:
            await self._follower.catch_up()
            self._see()
        else:
            self._take_in(await self.store.changes())

    async def _follow_on(self) -> None:
        while True:
            await self._clock.sleep(0.5)
            with suppress(StoreError):
                await self.follow()

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
        await self.refresher.aclose()

    def request(self, account: Account, **how: Any) -> asyncio.Task[Outcome]:
        """Begin a refresh, as it is begun for a request."""
        caller = asyncio.ensure_future(self.refresher.refresh(account, **how))
        self._callers.add(caller)
        caller.add_done_callback(self._callers.discard)
        return caller

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
        for task in [*ours, *self._tasks, *self._schedule._flights, *self._restorer._tasks]:
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
            self.left_behind |= {former.token.refresh_token or ""} - {account.token.refresh_token or ""}
