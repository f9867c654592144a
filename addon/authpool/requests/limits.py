"""What upstreams ask for by their rate limits: cooldowns, and accounts spared for their quota; kept over a restart.

A pool knows them at once. The store hears of them a little later, off the request's way, so that a restart and the
other gateways on the same store know them too.
"""

import asyncio
import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from authpool.accounts.account import AccountKey
from authpool.accounts.events import AccountEvent, EventKind, Notify
from authpool.accounts.printable import clip_reason
from authpool.accounts.standing import QUOTA_PROTECTION, Cooldown, Standing
from authpool.clock import Clock
from authpool.config.pool_config import QuotaReserve
from authpool.errors import AuthpoolError
from authpool.pool.path_pauses import path_of
from authpool.pool.pool import Member, Pool, State
from authpool.pool.report import timestamp
from authpool.requests.pooled_request import PooledRequest
from authpool.rotation.quota import Quota
from authpool.store import StandingChange, Store

logger = logging.getLogger(__name__)

WRITTEN_FROM_SECONDS = 1.0
"""A shorter cooldown is over before anybody could read it."""
SPARED_SECONDS = 60.0
"""So long an account is spared whose upstream does not say when the count starts anew."""
WRITES_AT_ONCE = 4
LOGGED_PATH_LETTERS = 100
OF_PATH = "the upstream asked every account for a pause on one path"


class Limits:
    """Applies rate limits to pools, and writes them down."""

    def __init__(self, store: Store, clock: Clock, notify: Notify) -> None:
        self._store = store
        self._clock = clock
        self._notify = notify
        self._changes: dict[AccountKey, list[tuple[StandingChange, EventKind | None]]] = {}
        self._writing: set[AccountKey] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(WRITES_AT_ONCE)

    def cool(
        self, pool: Pool, member: Member, pooled: PooledRequest, until: float | None, latest: float, reason: str
    ) -> None:
        """An upstream told the account to pause: until a time (Unix seconds), or for as long as we see fit.

        No longer than until `latest` (Unix seconds).
        """
        path = path_of(pooled.request)
        self._cool(pool, member, until, reason, lane=pooled.lane, sent_at=pooled.sent_at, latest=latest, path=path)

    def served(self, pool: Pool, member: Member, pooled: PooledRequest) -> None:
        """An upstream served the account: where it was told to pause for another path, that path is suspected."""
        now = self._clock.time()
        found = pool.path_pauses.served(member, pooled.request, pooled.sent_at, now)
        if found is None:
            return
        logger.warning(
            "Pool %s: accounts that were told to pause for the path %s serve others: the pause is that path's, not the "
            "%d accounts'",
            pool.config.name,
            clip_reason(found.path)[:LOGGED_PATH_LETTERS],
            len(found.moved),
        )
        for key, until in found.moved.items():
            moved = Cooldown(until=math.ceil(until), reason=OF_PATH, key=found.own_lane)
            self._write(key, partial(_moved, lane=found.lane, cooldown=moved, now=now))

    def refuse(self, pool: Pool, member: Member, reason: str, sent_at: float, latest: float | None = None) -> None:
        """Upstreams refuse the account's tokens: it is left out, longer each time, and then probed.

        No longer than until `latest` (Unix seconds).
        """
        self._cool(pool, member, None, reason, lane="", sent_at=sent_at, latest=latest)

    def accept(self, member: Member) -> None:
        """An upstream accepted the account's token again: let the other gateways know."""
        if member.written_until or any(cooldown.of_token for cooldown in member.account.cooldowns):
            member.written_until = 0
            self._write(member.key, Standing.with_token_accepted)

    def _cool(
        self,
        pool: Pool,
        member: Member,
        until: float | None,
        reason: str,
        *,
        lane: str,
        sent_at: float,
        latest: float | None = None,
        path: str = "",
    ) -> None:
        now = self._clock.time()
        since, known = pool.throttled(member.key, lane)
        throttle = pool.throttle(member.key, until, reason, lane=lane, sent_at=sent_at, latest=latest, path=path)
        if throttle is None or throttle.until == known:
            return
        if throttle.since != since:
            of = f" for {lane!r}" if lane else ""
            logger.warning(
                "Account %s is cooling%s until %s: %s", member.record.address, of, _told(throttle.until), reason
            )
            self._notify(AccountEvent(kind="cooled", account=member.account, reason=reason))
        if throttle.until - now >= WRITTEN_FROM_SECONDS:
            cooldown = Cooldown(until=math.ceil(throttle.until), reason=reason, key=lane)
            if not lane:
                member.written_until = cooldown.until
            self._write(member.key, lambda standing: standing.with_cooldown(cooldown, now))

    def spare(self, pool: Pool, member: Member, quota: Quota) -> None:
        """Hold an account back until its count starts anew, when less than its reserve is left."""
        now = self._clock.time()
        reserve = pool.config.quota_reserve
        if reserve is None or not _below(quota, reserve) or member.standing(now) in {State.PAUSED, State.DISABLED}:
            return
        until = quota.resets_at if quota.resets_at is not None else now + SPARED_SECONDS
        if until <= now or now < member.unspared_until:
            return

        def hold_back(standing: Standing) -> Standing:
            return standing if standing.paused(now) else standing.with_paused(now, QUOTA_PROTECTION, until)

        logger.warning(
            "Account %s is spared until %s: %d left of its quota", member.record.address, _told(until), quota.remaining
        )
        pool.put(member.account.with_standing(hold_back(member.account.standing)))
        self._write(member.key, hold_back, "paused")

    def take_back(self, pools: Iterable[Pool]) -> None:
        """Write that those are spared no more whose time is over."""
        now = self._clock.time()
        for pool in pools:
            for member in pool.take_spared():
                logger.info("Account %s is back: its quota counts anew", member.record.address)
                self._write(member.key, lambda standing: _taken_back(standing, now), "resumed")

    async def aclose(self) -> None:
        """Let what is to be written be written."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _write(self, key: AccountKey, change: StandingChange, kind: EventKind | None = None) -> None:
        """Write a change soon; who really made it, of all gateways on the store, tells of it as an event of `kind`."""
        self._changes.setdefault(key, []).append((change, kind))
        if key not in self._writing:
            self._writing.add(key)
            task = asyncio.create_task(self._write_all(key), name=f"write the limits of {key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write_all(self, key: AccountKey) -> None:
        """Write what there is to write of one account, in the order in which it came."""
        try:
            while key in self._changes:
                await self._write_some(key)
        finally:
            self._writing.discard(key)

    async def _write_some(self, key: AccountKey) -> None:
        async with self._slots:
            changes = self._changes.pop(key)
            made: list[tuple[EventKind, Standing]] = []

            def change_all(standing: Standing) -> Standing:
                made.clear()  # it may be asked again, of what is there then
                for change, kind in changes:
                    before, standing = standing, change(standing)
                    if kind is not None and standing != before:
                        made.append((kind, standing))
                return standing

            try:
                stored = await self._store.update_standing(key, change_all)
            except AuthpoolError as error:
                logger.warning("A limit of %s can't be written, and is forgotten at a restart: %s", key, error)
                return
        if stored is None:
            return
        for kind, standing in made:
            account = stored.with_standing(standing)
            self._notify(AccountEvent(kind=kind, account=account, reason=QUOTA_PROTECTION))


def _below(quota: Quota, reserve: QuotaReserve) -> bool:
    if reserve.share:
        return quota.limit is not None and quota.share < reserve.share
    return quota.remaining < reserve.requests


def _taken_back(standing: Standing, now: float) -> Standing:
    return standing.with_resumed() if standing.spared() and not standing.paused(now) else standing


def _moved(standing: Standing, *, lane: str, cooldown: Cooldown, now: float) -> Standing:
    kept = tuple(one for one in standing.cooldowns if one.key != lane or one.of_token)
    return replace(standing, cooldowns=kept).with_cooldown(cooldown, now)


def _told(at: float) -> str:
    return timestamp(math.ceil(at))
