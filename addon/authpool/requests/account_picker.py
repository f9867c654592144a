"""Which account serves a request, and what happens when one fails: the same request goes on with the next."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Literal

from authpool.accounts.account import Account
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.pool.pool import Member, Pool, State
from authpool.refresh.outcome import Dead, Misconfigured, Outcome, Ready, Rejected, Unavailable
from authpool.refresh.refresher import Refresher
from authpool.requests.account_choice import choose
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.refusals import GATEWAY_ERROR, Refusal
from authpool.requests.shortage import Exhausted, Shortage

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""So long a request may wait for refreshes altogether before it is answered."""
LIVE_PATIENCE_SECONDS = 3.0
"""And so long while its account's token still lives: then that one serves, to its last second."""
LOOK_SECONDS = (0.02, 0.25)
"""Who waits for an account to come back looks again after so long, at the least and at the most."""
LOOKS_PER_SECOND = 1000.0
"""Of all that wait together, as long as nobody looks more seldom than that."""

_SERVING = frozenset({State.READY, State.COOLING})
"""What cools was well when the request got it; its token is looked at besides."""


class AccountPicker:
    """Hands out accounts to requests. `pools` gives the pools of the moment; they may be swapped between calls."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        refresher: Refresher,
        clock: Clock,
        exhausted: Exhausted = lambda pool, returns_at: None,
    ) -> None:
        self._pools = pools
        self._refresher = refresher
        self._clock = clock
        self._shortage = Shortage(refresher, clock, exhausted)
        self._waiting = 0

    def needs_body(self, config: PoolConfig) -> bool:
        """Whether the account of a pool's requests is chosen by their body."""
        pool = self._pools().get(config.name)
        return config.cooldown_by.needs_body or (pool is not None and pool.needs_body)

    async def acquire(self, pooled: PooledRequest) -> None:
        """Give the pooled request an account with a live access token, or else a refusal."""
        began = self._clock.monotonic()
        try:
            await self._acquire(pooled, began + PATIENCE_SECONDS)
        finally:
            pooled.waited_seconds += self._clock.monotonic() - began

    async def _acquire(self, pooled: PooledRequest, deadline: float) -> None:
        pooled.refusal = None
        while True:
            pool = self._pools().get(pooled.pool)
            # An endpoint that is down is down for the next account as well: no refresh of them all, one by one.
            if self._clock.monotonic() >= deadline or pooled.endpoint_failures >= pooled.max_accounts:
                self.acquire_now(pooled)
                return
            member = None if pool is None else choose(pool, pooled, self._clock.time())
            if pool is not None and member is None and (waited := await self._wait(pooled, pool)):
                deadline += waited
                continue
            if pool is None or member is None:
                pooled.refusal = self._refusal(pooled, pool)
                return
            account = member.account
            self._hold(pooled, pool, account)
            if pooled.suspect is not None or member.live(self._clock.time(), member.mandatory_seconds):
                self._take(pooled, pool, account)
                return
            if await self._freshen(pooled, pool, member, deadline):
                return

    def acquire_now(self, pooled: PooledRequest) -> None:
        """Give the pooled request an account whose token is live, without waiting for anything; or else a refusal."""
        pool = self._pools().get(pooled.pool)
        while pool is not None and (member := choose(pool, pooled, self._clock.time())) is not None:
            if self._serves(member, pooled):
                self._take(pooled, pool, member.account)
                return
            pooled.tried.add(member.key)
        pooled.refusal = self._refusal(pooled, pool)

    async def _wait(self, pooled: PooledRequest, pool: Pool) -> float:
        """Wait a little for an account that comes back in time; answers how long (seconds), 0 when it is not worth it.

        Those that were left out because they had to pause may be tried again.
        """
        returns_at = pool.next_return(pooled.lane)
        now = self._clock.monotonic()
        if returns_at is None and pooled.cooled:
            returns_at = self._clock.time()  # those it was tried on may be back already
        if not pool.config.wait_seconds or returns_at is None:
            return 0.0
        if pooled.waiting_until is None:
            pooled.waiting_until = now + pool.config.wait_seconds
        ahead = max(0.0, returns_at - self._clock.time())
        if now + ahead > pooled.waiting_until or now >= pooled.waiting_until:
            return 0.0
        least, most = LOOK_SECONDS
        self._waiting += 1
        try:  # the more there are, the more seldom each of them looks
            await self._clock.sleep(min(most, max(least, ahead, self._waiting / LOOKS_PER_SECOND)))
        finally:
            self._waiting -= 1
        pooled.tried -= pooled.cooled
        pooled.cooled.clear()
        return self._clock.monotonic() - now

    def current(self, pooled: PooledRequest) -> str | None:
        """The access token to put on now, at the last moment; None when the pooled request has none that is live.

        A long upload may outlive the token it was given; by then the account has a newer one.
        """
        pool = self._pools().get(pooled.pool)
        if pooled.key is None or pooled.refusal is not None or pooled.closed or pool is None:
            return None
        member = pool.get(pooled.key)
        while member is None or not self._serves(
            member, pooled
        ):  # it left the pool meanwhile: another one, without waiting
            pooled.tried.add(pooled.key)
            member = choose(pool, pooled, self._clock.time())
            if member is None:
                return None
            pooled.trail.append(f"{pooled.address}: left the pool")
            pooled.key, pooled.address = member.key, member.record.address
        if member.record is not pooled.account:
            self._take(pooled, pool, member.account)
        return pooled.access_token

    def _serves(self, member: Member, pooled: PooledRequest) -> bool:
        now = self._clock.time()
        if member.standing(now) not in _SERVING:
            return False
        return member.live(now) or (pooled.suspect == member.key and member.account.token.live(now))

    def refuse(self, pooled: PooledRequest) -> Refusal:
        """Why a pooled request has no account any more."""
        pooled.refusal = self._refusal(pooled, self._pools().get(pooled.pool))
        return pooled.refusal

    def sent(self, pooled: PooledRequest) -> None:
        """The credential is on the wire."""
        pooled.sends += 1
        pooled.sent_at = self._clock.time()
        if pooled.key is None:
            return
        pooled.sent_on.add(pooled.key)
        pool = self._pools().get(pooled.pool)
        member = pool.get(pooled.key) if pool is not None else None
        if member is not None:
            member.served += 1

    async def _freshen(self, pooled: PooledRequest, pool: Pool, member: Member, deadline: float) -> bool:
        """Refresh an account whose token is at its end; True when the pooled request has it now."""
        account = member.account
        now = self._clock.time()
        if member.failures:  # the schedule goes on trying; no request waits for what just failed
            cause: Literal["store", "endpoint"] = "store" if member.waits_for_store else "endpoint"
            outcome: Outcome = Unavailable(detail="its last refresh failed", asked=False, cause=cause)
        else:
            whole = patience = max(0.1, deadline - self._clock.monotonic())
            if account.token.live(now) and account.token.expires_at is not None:
                patience = min(patience, LIVE_PATIENCE_SECONDS, (account.token.expires_at - now) / 2)
            try:
                async with asyncio.timeout(patience):
                    outcome = await self._refresher.refresh(account)
            except TimeoutError:
                if patience < whole and not account.token.live(self._clock.time()):
                    return False  # it ended meanwhile, on a busy machine: now the new one is worth waiting for
                outcome = Unavailable(detail="the refresh takes too long", cause="account")
        if isinstance(outcome, Ready):
            self._take(pooled, pool, outcome.account)
            return True
        # A failed refresh is not a failed request while the access token still lives.
        gone = isinstance(outcome, Dead | Rejected) or member.is_refused
        if not gone and account.token.live(self._clock.time()):
            self._take(pooled, pool, account)
            return True
        if isinstance(outcome, Unavailable | Misconfigured) and now < member.retry_at:
            pool.cool(member.key, member.retry_at, "its refresh failed")
        pooled.tried.add(member.key)
        self.note_failure(pooled, account.address, outcome)
        return False

    def note_failure(self, pooled: PooledRequest, name: str, outcome: Outcome) -> None:
        """Say, in the log and beside the flow, that a refresh failed and what comes now."""
        match outcome:
            case Dead():
                reason = "invalid_grant"
                if outcome.account.disabled_reason and "invalid_grant" not in outcome.account.disabled_reason:
                    reason = outcome.account.disabled_reason.partition(":")[0]
            case Rejected():
                reason = "invalid_grant"
            case Misconfigured():
                pooled.misconfigured = True
                reason = "client rejected"
            case Unavailable(asked=False):  # nobody waited for it: no reason to give up, and one line is enough
                if not (pooled.endpoint_down or pooled.store_down):
                    pooled.trail.append(f"{name}: {outcome.detail}")
                pooled.note_down(outcome.cause)
                return
            case Unavailable():
                pooled.endpoint_failures += outcome.cause == "endpoint"
                pooled.note_down(outcome.cause)
                reason = outcome.detail
            case Ready():
                reason = "the token endpoint gave the refused token again"
            case _:
                reason = "the account is gone"
        pooled.trail.append(f"{name}: {reason}")
        logger.warning("Token refresh failed (%s): %s, trying next account", name, reason)

    def take(self, pooled: PooledRequest, account: Account) -> None:
        """The pooled request goes on with an account as it is now."""
        pool = self._pools().get(pooled.pool)
        if pool is not None:
            self._take(pooled, pool, account)

    def _take(self, pooled: PooledRequest, pool: Pool, account: Account) -> None:
        self._hold(pooled, pool, account)
        if pooled.closed:
            return
        self._shortage.ended(pooled.pool)
        if pooled.tried and account.key not in pooled.tried:
            pooled.failed_over = True
        pooled.account, pooled.key = account, pooled.held
        pooled.address = account.address
        pooled.access_token = account.token.access_token or ""

    def _hold(self, pooled: PooledRequest, pool: Pool, account: Account) -> None:
        """Count the request as in flight on an account, and on no other."""
        key = account.key
        if pooled.held != key and not pooled.closed:
            self._let_go(pooled)
            pooled.held = key
            pool.began(key, pooled, pooled.lane)

    def release(self, pooled: PooledRequest) -> None:
        """The request is over: it counts on no account any more, and keeps no token."""
        pooled.closed = True
        self._let_go(pooled)
        pooled.account, pooled.access_token = None, ""
        pooled.refused.clear()

    def _let_go(self, pooled: PooledRequest) -> None:
        """The request has no account any more."""
        held, pooled.held = pooled.held, None
        pool = self._pools().get(pooled.pool)
        if held is not None and pool is not None:
            pool.ended(held, pooled, pooled.lane)

    def _refusal(self, pooled: PooledRequest, pool: Pool | None) -> Refusal:
        self._let_go(pooled)
        pooled.account = pooled.key = None
        pooled.access_token = ""
        return GATEWAY_ERROR if pooled.closed else self._shortage.refusal(pooled, pool)
