"""Refreshing ahead of expiry, in the background, so that in steady state no request waits for a refresh."""

import asyncio
import heapq
import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.confirmation import confirm_from
from authpool.clock import Clock
from authpool.pool.pool import Member, Pool, State
from authpool.refresh.background_flights import BackgroundFlights
from authpool.refresh.outcome import Dead, Gone, Misconfigured, Outcome, Ready, Rejected, Unavailable
from authpool.refresh.refresher import Refresher

logger = logging.getLogger(__name__)

JITTER = 0.2
"""An account is taken up to this share of its lead earlier, so that accounts added together do not stay together."""
BACKOFF_SECONDS = (1.0, 15.0)
"""Of one account, doubled each time; a token endpoint that is down for all is held back by its own watch."""
FAULT_BACKOFF_SECONDS = (1.0, 30.0)
LOOKS_PER_SECOND = 10.0
"""While a token endpoint is down, those who wait look at this rate, all together, whether one of them may probe it."""
WAKES_PER_SECOND = 50.0
"""When a token endpoint is back, those who waited come at this rate, the first to expire first."""
OWN_BACKOFF_SECONDS = (2.0, 300.0)
"""Where what was said is the account's own trouble: some of it passes at once, and the rest is asked seldom."""
STALE_SHARE = 0.5
"""Of what is left of a token that a refresh did not replace, so much passes before the next one: a few tries in all,
and one of them shortly before the end."""
STALE_SECONDS = 1.0
"""With less than twice this left the next one is at the end: some providers give a new token only then."""
LOOK_SECONDS = 15.0
"""So often the wall clock is looked at: it may have been put forward or back."""
CLOCK_STEP_SECONDS = 2.0
"""What the wall clock gains or loses between two looks without having been put; a suspended machine's gains more."""


class RefreshSchedule:
    """Keeps the access tokens of every account alive that is not disabled, paused ones too."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        refresher: Refresher,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._pools = pools
        self._refresher = refresher
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads refreshes, guards nothing
        self._due: list[tuple[float, AccountKey]] = []
        self._planned: dict[AccountKey, float] = {}
        self._woken = asyncio.Event()
        self._flights = BackgroundFlights(self._refresh, self._endpoint_of)
        self._wall_offset = clock.time() - clock.monotonic()
        self._store_trouble = False
        self._waiting: dict[str, set[AccountKey]] = {}
        """Who waits for which token endpoint (by URL) to come back."""

    async def run(self) -> None:
        """Refresh what is due, for ever; ends by cancellation."""
        try:
            while True:
                await self._wait()
                self._mind_the_clock()
                now = self._clock.time()
                while self._due and self._due[0][0] <= now:
                    at, key = heapq.heappop(self._due)
                    if self._planned.get(key) == at:  # else it was planned anew since
                        del self._planned[key]
                        self._flights.add(key)
        finally:
            await self._flights.aclose()

    def plan(self, member: Member, *, earliest: float = 0.0) -> None:
        """Note when a member is due next, now that something about it changed; not before `earliest` (Unix seconds)."""
        due = self._due_at(member) if isinstance(member.record, Account) else None
        if due is None:
            self._planned.pop(member.key, None)
            return
        due = max(due, earliest)
        self._planned[member.key] = due
        heapq.heappush(self._due, (due, member.key))
        self._woken.set()

    def settle(self, key: AccountKey, outcome: Outcome) -> None:
        """Apply what came of a refresh to the pool, and plan the next one."""
        pool = self._pools().get(key.pool)
        if pool is None:
            return
        match outcome:
            case Ready():
                if outcome.posted:
                    self._tell_of_the_store("")
                self._take_in(pool, outcome.account, posted=outcome.posted)
            case Dead():
                pool.condemn(outcome.account, stored=outcome.stored)
            case Rejected():
                self._wait_to_confirm(pool, outcome)
            case Unavailable() | Misconfigured():
                self._postpone(pool, key, outcome)
            case Gone():  # whoever follows the store sees it go; until then it is not looked for over and over
                gone = pool.get(key)
                if gone is not None:
                    gone.retry_at = self._clock.time() + BACKOFF_SECONDS[0]
        self._wake()
        after = pool.get(key)
        if after is not None:
            self.plan(after)

    def _wait_to_confirm(self, pool: Pool, outcome: Rejected) -> None:
        """Out of the rotation at once; `plan` sees to the second answer."""
        member = pool.put(outcome.account)
        if not outcome.stored:  # the store will not know that it is the second one
            member.failures, member.waits_for_store = member.failures + 1, True
            member.retry_at = self._clock.time() + self._backoff(member.failures, Unavailable(detail="", cause="store"))

    def _take_in(self, pool: Pool, account: Account, *, posted: bool) -> None:
        """Let an account serve with its token; where that is the one that was to be replaced, come again later."""
        before = pool.get(account.key)
        failures = before.failures if before is not None else 0
        member = pool.put(account)
        pool.warm(account.key)
        now = self._clock.time()
        member.retry_at = 0.0
        if (self._due_at(member) or math.inf) > now:
            member.failures = 0
            return
        # The provider gives the same token until it ends: asking at once, and again, would bring nothing else.
        left = (account.token.expires_at or now) - now
        # What another process fetched a while ago may be due again too: no failure, and requests may wait for the next.
        member.failures = failures + 1 if posted else 0
        if posted and not failures:
            logger.info("The token endpoint gave %s the access token that it had: it is asked again", account.address)
        if left > 0:
            share = 1.0 if left <= 2 * STALE_SECONDS else STALE_SHARE * self._rng.uniform(0.8, 1.0)
            member.retry_at = now + left * share
            return
        member.retry_at = now + min(BACKOFF_SECONDS[1], BACKOFF_SECONDS[0] * 2.0 ** min(failures, 10))
        pool.cool(account.key, member.retry_at, "the token endpoint gives a token that is over")

    def _postpone(self, pool: Pool, key: AccountKey, outcome: Unavailable | Misconfigured) -> None:
        member = pool.get(key)
        if member is None or not isinstance(member.record, Account):
            return
        now = self._clock.time()
        if isinstance(outcome, Unavailable) and outcome.account is not None:
            failures = member.failures
            pool.put(outcome.account).failures = failures  # a new credential, and no better off for it
        if isinstance(outcome, Unavailable) and not outcome.asked:
            member.failures, member.waits_for_store = max(1, member.failures), False
            spread = 1.0 + len(self._waiting.get(outcome.endpoint or "", ())) / LOOKS_PER_SECOND
            wait = (outcome.retry_after_seconds or 0.0) + self._rng.uniform(0, spread)
        else:
            member.failures += 1
            member.waits_for_store = isinstance(outcome, Unavailable) and outcome.cause == "store"
            wait = self._backoff(member.failures, outcome)
            if isinstance(outcome, Unavailable) and outcome.cause == "store":
                self._tell_of_the_store(outcome.detail)
            elif member.failures == 1 and isinstance(outcome, Unavailable):  # a fault is told once, of the pool
                logger.warning("Refreshing %s did not work: %s", member.record.address, outcome.detail)
        member.retry_at = now + wait
        if not member.live(now):
            pool.cool(key, member.retry_at, outcome.detail)
        self._note_waiting(key, outcome)

    def _tell_of_the_store(self, trouble: str) -> None:
        """Once for all accounts, and once when it is over."""
        if trouble and not self._store_trouble:
            logger.error("Refreshes wait for the store: %s. Live tokens serve on, and it is tried again", trouble)
        elif self._store_trouble and not trouble:
            logger.warning("Refreshes wait for the store no more")
        self._store_trouble = bool(trouble)

    def _backoff(self, failures: int, outcome: Unavailable | Misconfigured) -> float:
        """How long one account waits after so many failures of its own, in seconds."""
        own = isinstance(outcome, Unavailable) and outcome.cause == "account"
        fault = isinstance(outcome, Misconfigured)
        shortest, longest = FAULT_BACKOFF_SECONDS if fault else OWN_BACKOFF_SECONDS if own else BACKOFF_SECONDS
        wait = min(longest, shortest * 2.0 ** min(failures - 1, 10)) * self._rng.uniform(0.5, 1.0)
        if isinstance(outcome, Misconfigured):
            return wait
        if outcome.retry_after_seconds is not None:
            return max(outcome.retry_after_seconds, wait if outcome.retry_after_seconds else 0.0)
        return wait

    def _note_waiting(self, key: AccountKey, outcome: Unavailable | Misconfigured) -> None:
        if isinstance(outcome, Misconfigured) or outcome.endpoint is None:
            return
        told_when = outcome.asked and outcome.retry_after_seconds  # that one was told itself: it keeps to it
        if not told_when and self._refresher.endpoint_down(outcome.endpoint):
            self._waiting.setdefault(outcome.endpoint, set()).add(key)

    def _wake(self) -> None:
        """Let those come whose token endpoint is back: soon, and not all at once."""
        for url in [url for url in self._waiting if not self._refresher.endpoint_down(url)]:
            now = self._clock.time()
            for position, member in enumerate(self._by_expiry(self._waiting.pop(url))):
                member.failures, member.retry_at = 0, 0.0
                self._pools()[member.key.pool].warm(member.key)
                self.plan(member, earliest=now + (position + self._rng.uniform(0, 1)) / WAKES_PER_SECOND)

    def _by_expiry(self, keys: Iterable[AccountKey]) -> list[Member]:
        found = (pool.get(key) for key in keys if (pool := self._pools().get(key.pool)) is not None)
        members = [member for member in found if member is not None and isinstance(member.record, Account)]
        return sorted(members, key=lambda member: member.account.token.expires_at or 0)

    def _due_at(self, member: Member) -> float | None:
        """When (Unix seconds) a member is to be refreshed; None when there is nothing to refresh or to hope for."""
        account = member.account
        pool = self._pools().get(account.pool)
        if pool is None or pool.config.type == "static" or member.state(self._clock.time()) is State.DISABLED:
            return None
        if account.token.refresh_token is None and pool.config.type == "refresh_token":
            return None
        rejected_at = account.rejected_at()
        if rejected_at is not None:
            now = self._clock.time()
            return max(confirm_from(rejected_at, now) + self._rng.uniform(0, 1), member.retry_at)
        if account.token.access_token is None or member.is_refused:
            return max(member.retry_at, self._clock.time() + self._rng.uniform(0, 1))
        if account.token.expires_at is None:
            return None
        lead = member.advisory_seconds * (1 + self._rng.uniform(0, JITTER))
        return max(account.token.expires_at - lead, member.retry_at)

    def _mind_the_clock(self) -> None:
        """Move waits along when the wall clock was put forward or back: a wait of seconds must not become an hour."""
        offset = self._clock.time() - self._clock.monotonic()
        step, self._wall_offset = offset - self._wall_offset, offset
        if abs(step) < CLOCK_STEP_SECONDS:
            return
        logger.warning("The clock was put %s by %d s", "forward" if step > 0 else "back", abs(step))
        for pool in self._pools().values():
            pool.shift(step)
            for member in pool:
                self.plan(member)

    async def _wait(self) -> None:
        self._woken.clear()
        if not self._due:
            await self._woken.wait()
            return
        wait = self._due[0][0] - self._clock.time()
        if wait <= 0:
            return
        sleep = asyncio.ensure_future(self._clock.sleep(min(wait, LOOK_SECONDS)))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({sleep, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            woken.cancel()

    def _endpoint_of(self, key: AccountKey) -> str:
        """Name whom an account's refreshes ask, so that those who wait for one do not hold up the others."""
        pool = self._pools().get(key.pool)
        return (pool.config.token_url or pool.config.issuer if pool is not None else None) or f"pool {key.pool}"

    async def _refresh(self, key: AccountKey) -> None:
        pool = self._pools().get(key.pool)
        member = pool.get(key) if pool is not None else None
        if member is not None and isinstance(member.record, Account):
            await self._refresher.refresh(member.record, probe=True)
