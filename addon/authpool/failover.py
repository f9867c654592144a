"""What an upstream's answer does to the account it was asked with, and whether the request goes on with another."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum, auto

from authpool.account import Account
from authpool.broker import PATIENCE_SECONDS, Broker
from authpool.clock import Clock
from authpool.config.answer_rule import Meaning
from authpool.lease import Lease
from authpool.limits import Limits
from authpool.pool import Member, Pool, State
from authpool.quota import quota_of, retry_after
from authpool.refresh.outcome import Outcome, Ready, Unavailable
from authpool.refresh.refresher import Refresher
from authpool.upstream_answer import UpstreamAnswer

logger = logging.getLogger(__name__)

UNCURED_SECONDS = 60.0
"""A fresh token was refused as well: so long a 401 of that account is not worth another refresh."""


class Decision(Enum):
    """What to do with an upstream's answer."""

    RESEND = auto()
    PASS_ON = auto()


class Failover:
    """Hears the answers of upstreams. `pools` gives the pools of the moment."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        broker: Broker,
        refresher: Refresher,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._pools = pools
        self._broker = broker
        self._refresher = refresher
        self._limits = limits
        self._clock = clock

    def heard(self, lease: Lease, answer: UpstreamAnswer, meaning: Meaning) -> None:
        """Note at once what an answer tells: a pause that is asked for, the end of one, what is left of a quota."""
        pool = self._pools().get(lease.pool)
        member = pool.get(lease.key) if pool is not None and lease.key is not None else None
        if pool is None or member is None:
            return
        now = self._clock.time()
        quota = quota_of(answer.header, now) if answer.tells_limits else None
        if quota is not None and meaning != "bad_token":  # what an upstream counts for nobody's token is nobody's quota
            pool.observe(member.key, quota)
            self._limits.spare(pool, member, quota)
        if meaning == "cooldown":
            empty = quota is not None and quota.remaining == 0
            until = retry_after(answer.header, now) or (quota.resets_at if empty and quota is not None else None)
            if until is not None and until <= now:  # "at once" from who has just refused is no answer
                until = None
            self._limits.cool(pool, member, lease, until, f"the upstream answered {answer.status}")
        elif meaning == "ok" and _proves(answer) and pool.proved(member.key, lane=lease.lane, sent_at=lease.sent_at):
            logger.info("Account %s serves again after a cooldown", member.record.address)

    async def decide(self, lease: Lease, meaning: Meaning, *, resend: bool) -> Decision:
        """Say whether the same request goes on, with the account's new token or with another account.

        `max_accounts` are tried in all. Without `resend` the request can't be sent again, but a bad token is replaced.
        """
        match meaning:
            case "bad_token":
                return await self._unauthorized(lease, resend=resend)
            case "cooldown" | "forbidden":
                return await self._next_account(lease, meaning, resend=resend)
        return Decision.PASS_ON

    async def _next_account(self, lease: Lease, meaning: Meaning, *, resend: bool) -> Decision:
        """The account is as good as before, but not for this request now."""
        if lease.key is None:
            return Decision.PASS_ON
        lease.trail.append(f"{lease.address}: {meaning}")
        lease.tried.add(lease.key)
        if meaning == "cooldown":
            lease.cooled.add(lease.key)
        if not resend or (len(lease.sent_on) >= lease.max_accounts and not self._may_wait(lease, meaning)):
            return Decision.PASS_ON
        await self._broker.acquire(lease)
        if lease.refusal is None:
            return Decision.RESEND
        if meaning == "forbidden":
            lease.refusal = None  # the upstream's own answer tells the client more than we could
        return Decision.PASS_ON

    def _may_wait(self, lease: Lease, meaning: Meaning) -> bool:
        """Whether a request that was tried on enough accounts may wait, since nobody else could serve it either."""
        pool = self._pools().get(lease.pool)
        return (
            meaning == "cooldown"
            and pool is not None
            and pool.config.wait_seconds > 0
            and not pool.counts().get(State.READY)
        )

    async def _unauthorized(self, lease: Lease, *, resend: bool) -> Decision:
        """An upstream answered 401 to the lease's token: that token string is bad.

        Refresh the account once, if its token is still that one; a second 401 is the next account's turn, and
        `max_accounts` are tried in all. Without `resend` the request can't be sent again, but the token is replaced.
        The 401 is passed on where nothing newer could be tried: then it is about something else than the token (a
        scope, a plan). The client knows of no token: any other one that could not be had is answered by a refusal.
        """
        key = lease.key
        pool = self._pools().get(lease.pool)
        if pool is None or key is None:
            return Decision.PASS_ON
        member = pool.get(key)
        name = lease.address
        rejected = lease.access_token
        now = self._clock.time()
        final = False
        if member is None or not isinstance(member.record, Account):
            lease.trail.append(f"{name}: 401, left the pool")
        elif key not in lease.refreshed and (
            member.uncured_until <= now or member.account.token.access_token != rejected
        ):
            lease.refreshed.add(key)
            renewable = _is_renewable(pool, member.account)
            outcome = await self._replace(member, rejected)
            if isinstance(outcome, Ready) and outcome.account.token.access_token != rejected:
                lease.trail.append(f"{name}: 401, refreshed")
                self._broker.take(lease, outcome.account)
                return Decision.RESEND if resend else Decision.PASS_ON
            self._broker.note_failure(lease, name, outcome)
            final = isinstance(outcome, Ready) or not renewable
        else:
            lease.trail.append(f"{name}: 401")
            member.uncured_until = now + UNCURED_SECONDS
            final = True
        lease.tried.add(key)
        if not resend:
            return Decision.PASS_ON
        if len(lease.sent_on) >= lease.max_accounts:
            self._broker.refuse(lease)
        else:
            await self._broker.acquire(lease)
        if lease.refusal is None:
            return Decision.RESEND
        if final:
            lease.refusal = None  # the upstream's own 401 tells the client more than we could
        return Decision.PASS_ON

    async def _replace(self, member: Member, rejected: str) -> Outcome:
        account = member.account
        if account.token.access_token != rejected and account.token.live(self._clock.time()):
            return Ready(account=account, posted=False)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._refresher.refresh(account, rejected=rejected, probe=True)
        except TimeoutError:
            return Unavailable(detail="the refresh takes too long", cause="account")


def _is_renewable(pool: Pool, account: Account) -> bool:
    """Whether there is anything to present to a token endpoint."""
    return pool.config.type == "client_credentials" or (
        pool.config.type == "refresh_token" and account.token.refresh_token is not None
    )


def _proves(answer: UpstreamAnswer) -> bool:
    """Whether an answer shows that the account is served again: no error of the upstream's own does.

    gRPC says it at the end, unless it refuses at once.
    """
    content_type = (answer.header("content-type") or "").lstrip().lower()
    unsaid = content_type.startswith("application/grpc") and answer.header("grpc-status") is None
    return answer.status < 500 and not unsaid
