"""Which account serves a request, and what happens when one fails: the same request goes on with the next."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from authpool.account import Account, AccountKey
from authpool.answers import POOL_MISCONFIGURED, Refusal, pool_exhausted, token_endpoint_unavailable
from authpool.clock import Clock
from authpool.pool import Member, Pool, State
from authpool.refresh.outcome import Dead, Misconfigured, Outcome, Ready, Unavailable
from authpool.refresh.refresher import Refresher
from authpool.rotation import RotationRequest

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""So long a request may wait for refreshes altogether before it is answered."""
LIVE_PATIENCE_SECONDS = 3.0
"""And so long while its account's token still lives: then that one serves, to its last second."""
RETRY_SECONDS = 5.0
"""When nothing tells how long the token endpoint will be down: come again after this."""
UNCURED_SECONDS = 60.0
"""A fresh token was refused as well: so long a 401 of that account is not worth another refresh."""


class Decision(Enum):
    """What to do with an upstream's 401."""

    RESEND = auto()
    PASS_ON = auto()


@dataclass(slots=True, kw_only=True)
class Lease:
    """One request's hold on a pool: what it was given, and everything it was tried on.

    The access token is here and on the wire, and nowhere else.
    """

    pool: str
    rotation: str
    request: RotationRequest
    max_accounts: int
    key: AccountKey | None = None
    address: str = ""
    access_token: str = field(default="", repr=False)
    sends: int = 0
    sent_on: set[AccountKey] = field(default_factory=set)
    tried: set[AccountKey] = field(default_factory=set)
    refreshed: set[AccountKey] = field(default_factory=set)
    trail: list[str] = field(default_factory=list)
    refusal: Refusal | None = None
    endpoint_failures: int = 0
    endpoint_down: bool = False
    misconfigured: bool = False

    def comment(self, outcome: str) -> str:
        """What mitmweb shows beside the flow; never a secret."""
        parts = [f"account={self.address or '-'}", f"rotation={self.rotation}", f"attempts={self.sends}"]
        parts.append(f"outcome={outcome}")
        return "authpool: " + " ".join(parts) + (f" ({'; '.join(self.trail)})" if self.trail else "")


class Broker:
    """Hands out accounts to requests. `pools` gives the pools of the moment; they may be swapped between calls."""

    def __init__(self, pools: Callable[[], Mapping[str, Pool]], refresher: Refresher, clock: Clock) -> None:
        self._pools = pools
        self._refresher = refresher
        self._clock = clock

    async def acquire(self, lease: Lease) -> None:
        """Give the lease an account with a live access token, or else a refusal."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        lease.refusal = None
        while True:
            pool = self._pools().get(lease.pool)
            member = None if pool is None else pool.choose(lease.request, lease.tried)
            # An endpoint that is down is down for the next account as well: no walk through all of them.
            given_up = self._clock.monotonic() >= deadline or lease.endpoint_failures >= lease.max_accounts
            if pool is None or member is None or given_up:
                lease.refusal = self._refusal(lease, pool)
                return
            account = member.account
            now = self._clock.time()
            if account.token.live(now, member.mandatory_seconds):
                self._take(lease, account)
                return
            if await self._freshen(lease, pool, member, deadline):
                return

    def current(self, lease: Lease) -> str | None:
        """The access token to put on now, at the last moment; None when the lease has none that is live.

        A long upload may outlive the token it was given; by then the account has a newer one.
        """
        pool = self._pools().get(lease.pool)
        if lease.key is None or lease.refusal is not None or pool is None:
            return None
        member = pool.get(lease.key)
        while member is None or not self._serves(member):  # it left the pool meanwhile: another one, without waiting
            lease.tried.add(lease.key)
            member = pool.choose(lease.request, lease.tried)
            if member is None:
                return None
            lease.trail.append(f"{lease.address}: left the pool")
            lease.key, lease.address = member.key, member.record.address
        self._take(lease, member.account)
        return lease.access_token

    def _serves(self, member: Member) -> bool:
        now = self._clock.time()
        unusable = {State.BROKEN, State.DISABLED, State.PAUSED}
        return member.state(now) not in unusable and member.account.token.live(now)

    def refuse(self, lease: Lease) -> Refusal:
        """Why a lease has no account any more."""
        lease.refusal = self._refusal(lease, self._pools().get(lease.pool))
        return lease.refusal

    def sent(self, lease: Lease) -> None:
        """The credential is on the wire."""
        lease.sends += 1
        if lease.key is None:
            return
        lease.sent_on.add(lease.key)
        pool = self._pools().get(lease.pool)
        member = pool.get(lease.key) if pool is not None else None
        if member is not None:
            member.served += 1

    async def unauthorized(self, lease: Lease, *, resend: bool) -> Decision:
        """An upstream answered 401 to the lease's token: that token string is bad.

        Refresh the account once, if its token is still that one; a second 401 is the next account's turn, and
        `max_accounts` are tried in all. Without `resend` the request can't be sent again, but the token is replaced.
        """
        key = lease.key
        pool = self._pools().get(lease.pool)
        member = pool.get(key) if pool is not None and key is not None else None
        if pool is None or key is None or member is None or not isinstance(member.record, Account):
            return Decision.PASS_ON
        name = lease.address
        rejected = lease.access_token
        now = self._clock.time()
        if key not in lease.refreshed and (member.uncured_until <= now or self._is_newer(member, rejected)):
            lease.refreshed.add(key)
            outcome = await self._replace(member, rejected)
            if isinstance(outcome, Ready) and outcome.account.token.access_token != rejected:
                lease.trail.append(f"{name}: 401, refreshed")
                self._take(lease, outcome.account)
                return Decision.RESEND if resend else Decision.PASS_ON
            self._note_failure(lease, name, outcome)
            died = isinstance(outcome, Dead)
        else:
            lease.trail.append(f"{name}: 401")
            member.uncured_until = now + UNCURED_SECONDS
            died = False
        lease.tried.add(key)
        if not resend or len(lease.sent_on) >= lease.max_accounts:
            return Decision.PASS_ON
        await self.acquire(lease)
        if lease.refusal is None:
            return Decision.RESEND
        if not died:
            lease.refusal = None  # the upstream's own 401 tells the client more than we could
        return Decision.PASS_ON

    def _is_newer(self, member: Member, rejected: str) -> bool:
        return member.account.token.access_token != rejected

    async def _replace(self, member: Member, rejected: str) -> Outcome:
        account = member.account
        if account.token.access_token != rejected and account.token.live(self._clock.time()):
            return Ready(account=account, posted=False)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._refresher.refresh(account, rejected=rejected, probe=True)
        except TimeoutError:
            return Unavailable(detail="the refresh takes too long", cause="account")

    async def _freshen(self, lease: Lease, pool: Pool, member: Member, deadline: float) -> bool:
        """Refresh an account whose token is at its end; True when the lease has it now."""
        account = member.account
        now = self._clock.time()
        if member.failures:  # the keeper goes on trying; no request waits for what just failed
            outcome: Outcome = Unavailable(detail="its last refresh failed", asked=False)
        else:
            patience = max(0.1, deadline - self._clock.monotonic())
            if account.token.live(now) and account.token.expires_at is not None:
                patience = min(patience, LIVE_PATIENCE_SECONDS, (account.token.expires_at - now) / 2)
            try:
                async with asyncio.timeout(patience):
                    outcome = await self._refresher.refresh(account)
            except TimeoutError:
                outcome = Unavailable(detail="the refresh takes too long", cause="account")
        if isinstance(outcome, Ready):
            self._take(lease, outcome.account)
            return True
        # A failed refresh is not a failed request while the access token still lives.
        if not isinstance(outcome, Dead) and account.token.live(self._clock.time()):
            self._take(lease, account)
            return True
        if isinstance(outcome, Unavailable | Misconfigured) and now < member.retry_at:
            pool.cool(member.key, member.retry_at, "its refresh failed")
        lease.tried.add(member.key)
        self._note_failure(lease, account.address, outcome)
        return False

    def _note_failure(self, lease: Lease, name: str, outcome: Outcome) -> None:
        match outcome:
            case Dead():
                reason = "invalid_grant"
                if outcome.account.disabled_reason and "invalid_grant" not in outcome.account.disabled_reason:
                    reason = outcome.account.disabled_reason.partition(":")[0]
            case Misconfigured():
                lease.misconfigured = True
                reason = "client rejected"
            case Unavailable(asked=False):  # nobody waited for it: no reason to give up, and one line is enough
                if not lease.endpoint_down:
                    lease.trail.append(f"{name}: {outcome.detail}")
                lease.endpoint_down = True
                return
            case Unavailable():
                if outcome.cause == "endpoint":
                    lease.endpoint_failures += 1
                    lease.endpoint_down = True
                reason = outcome.detail
            case Ready():
                reason = "the token endpoint gave the refused token again"
            case _:
                reason = "the account is gone"
        lease.trail.append(f"{name}: {reason}")
        logger.warning("Token refresh failed (%s): %s, trying next account", name, reason)

    def _take(self, lease: Lease, account: Account) -> None:
        lease.key = account.key
        lease.address = account.address
        lease.access_token = account.token.access_token or ""

    def _refusal(self, lease: Lease, pool: Pool | None) -> Refusal:
        lease.key = None
        lease.access_token = ""
        if pool is None:
            return pool_exhausted({}, None)
        thaw = pool.earliest_thaw()
        wait = None if thaw is None else thaw - self._clock.time()
        if lease.misconfigured or self._refresher.fault(pool.config.name) is not None:
            return POOL_MISCONFIGURED
        counts = pool.counts()
        if lease.endpoint_down or (counts.get(State.COOLING) and self._endpoint_is_down(pool)):
            return token_endpoint_unavailable(RETRY_SECONDS if wait is None else wait)
        return pool_exhausted(counts, wait)

    def _endpoint_is_down(self, pool: Pool) -> bool:
        now = self._clock.time()
        if pool.config.type == "static":
            return False
        needs_grant = pool.config.type == "refresh_token"
        return any(
            member.failures
            and member.state(now) is State.COOLING
            and not (needs_grant and member.account.token.refresh_token is None)
            for member in pool
        )
