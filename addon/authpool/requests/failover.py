"""What an upstream's answer does to the account it was asked with, and whether the request goes on with another."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum, auto

from authpool.accounts.account import Account
from authpool.accounts.standing import TOKEN_REFUSED
from authpool.clock import Clock
from authpool.config.answer_rule import Meaning
from authpool.pool.pool import Member, Pool, State
from authpool.pool.refused_token import SURE_COUNT, RefusedToken
from authpool.refresh.outcome import Dead, Gone, Misconfigured, Outcome, Ready, Unavailable
from authpool.refresh.refresher import Refresher
from authpool.requests.account_picker import PATIENCE_SECONDS, AccountPicker
from authpool.requests.limits import Limits
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.rotation.quota import quota_of, retry_after

logger = logging.getLogger(__name__)


QUOTA_SLACK_SECONDS = 2.0
"""A Retry-After is told in whole seconds, and may be that much later than when the quota counts anew."""


class Decision(Enum):
    """What to do with an upstream's answer."""

    RESEND = auto()
    PASS_ON = auto()


class Failover:
    """Hears the answers of upstreams. `pools` gives the pools of the moment."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        picker: AccountPicker,
        refresher: Refresher,
        limits: Limits,
        clock: Clock,
        plan: Callable[[Member], None] = lambda member: None,
    ) -> None:
        """`plan` hears of an account that is to be refreshed, though its token has not expired."""
        self._pools = pools
        self._picker = picker
        self._refresher = refresher
        self._limits = limits
        self._clock = clock
        self._plan = plan

    def heard(self, pooled: PooledRequest, answer: UpstreamAnswer, meaning: Meaning) -> None:
        """Note at once what an answer tells: a pause that is asked for, the end of one, what is left of a quota."""
        pool = self._pools().get(pooled.pool)
        member = pool.get(pooled.key) if pool is not None and pooled.key is not None else None
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
            latest = now + pool.config.max_cooldown_seconds
            if empty and quota is not None and quota.resets_at is not None:  # a second voice
                latest = max(latest, quota.resets_at + QUOTA_SLACK_SECONDS)
            self._limits.cool(pool, member, pooled, until, latest, f"the upstream answered {answer.status}")
        elif meaning == "ok" and _proves(answer):
            ended = _serves(answer) and self._served(pool, member, pooled)
            if pool.cooling:
                self._limits.served(pool, member, pooled)
            ended = pool.proved(member.key, lane=pooled.lane, sent_at=pooled.sent_at) or ended
            if ended:
                logger.info("Account %s serves again after a cooldown", member.record.address)
                self._limits.accept(member)

    def _served(self, pool: Pool, member: Member, pooled: PooledRequest) -> bool:
        """An upstream gave what was asked for; whether that takes back that the account's token is refused.

        Whoever refused the same in this flow is at fault: it was not the request.
        """
        now, suspects = self._clock.time(), pool.suspects
        ended = suspects.served(member, pooled.request, pooled.access_token, now)
        ended = suspects.accepted(member, pooled.access_token, now) or ended
        if pooled.refused:
            for key, (refused, without_token) in pooled.refused.items():
                other = pool.get(key)
                if other is not None and key != member.key:
                    self._blame(pool, other, refused, without_token=without_token)
            pooled.refused.clear()
        return ended

    async def decide(self, pooled: PooledRequest, meaning: Meaning, *, resend: bool) -> Decision:
        """Say whether the same request goes on, with the account's new token or with another account.

        `max_accounts` are tried in all. Without `resend` the request can't be sent again, but a bad token is replaced.
        """
        match meaning:
            case "bad_token":
                return await self._unauthorized(pooled, resend=resend)
            case "cooldown" | "forbidden":
                return await self._next_account(pooled, meaning, resend=resend)
        return Decision.PASS_ON

    async def _next_account(self, pooled: PooledRequest, meaning: Meaning, *, resend: bool) -> Decision:
        """The account is as good as before, but not for this request now."""
        if pooled.key is None:
            return Decision.PASS_ON
        pooled.trail.append(f"{pooled.address}: {meaning}")
        pooled.tried.add(pooled.key)
        if meaning == "cooldown":
            pooled.cooled.add(pooled.key)
        if not resend or (len(pooled.sent_on) >= pooled.max_accounts and not self._may_wait(pooled, meaning)):
            return Decision.PASS_ON
        await self._picker.acquire(pooled)
        if pooled.refusal is None:
            return Decision.RESEND
        if meaning == "forbidden":
            pooled.refusal = None  # the upstream's own answer tells the client more than we could
        return Decision.PASS_ON

    def _may_wait(self, pooled: PooledRequest, meaning: Meaning) -> bool:
        """Whether a request that was tried on enough accounts may wait, since nobody else could serve it either."""
        pool = self._pools().get(pooled.pool)
        return (
            meaning == "cooldown"
            and pool is not None
            and pool.config.wait_seconds > 0
            and not pool.counts().get(State.READY)
        )

    async def _unauthorized(self, pooled: PooledRequest, *, resend: bool) -> Decision:
        """An upstream answered 401 to the request's token: that token string is bad, or not good enough for this.

        Refresh the account once, if its token is still that one; a second 401 is the next account's turn, and
        `max_accounts` are tried in all. Without `resend` the request can't be sent again, but the token is replaced.
        The 401 is passed on where nothing newer could be tried: then it is about something else than the token (a
        scope, a plan). The client knows of no token: any other one that could not be had is answered by a refusal.
        """
        refused = pooled.refused_token()
        pool = self._pools().get(pooled.pool)
        if pool is None or refused is None:
            return Decision.PASS_ON
        name, member, began = pooled.address, pool.get(refused.key), self._clock.monotonic()
        renewable = member is not None and isinstance(member.record, Account) and _is_renewable(pool, member.account)
        pooled.refreshed.add(refused.key)
        outcome = await self._mend(refused)
        pooled.waited_seconds += self._clock.monotonic() - began
        if isinstance(outcome, Ready) and outcome.account.token.access_token != refused.access_token:
            pooled.trail.append(f"{name}: 401, refreshed")
            if resend:
                self._picker.take(pooled, outcome.account)
            return Decision.RESEND if resend else Decision.PASS_ON
        self._note_refusal(pooled, name, outcome)
        if not isinstance(outcome, Dead | Gone) and not pooled.closed:
            pooled.refused[refused.key] = (refused, renewable and not (outcome is None or isinstance(outcome, Ready)))
        pooled.tried.add(refused.key)
        if not resend:
            return Decision.PASS_ON
        if len(pooled.sent_on) >= pooled.max_accounts:
            self._picker.refuse(pooled)
        else:
            await self._picker.acquire(pooled)
        if pooled.refusal is None:
            return Decision.RESEND
        if outcome is None or isinstance(outcome, Ready) or not renewable:
            pooled.refusal = None  # the upstream's own 401 tells the client more than we could
        return Decision.PASS_ON

    def _note_refusal(self, pooled: PooledRequest, name: str, outcome: Outcome | None) -> None:
        match outcome:
            case None:
                pooled.trail.append(f"{name}: 401")
            case Gone():
                pooled.trail.append(f"{name}: 401, left the pool")
            case _:
                self._picker.note_failure(pooled, name, outcome)

    async def replace(self, refused: RefusedToken) -> None:
        """A refusal that can't be answered by sending the request again: the next one shall not meet the same token."""
        await self._mend(refused)

    async def _mend(self, refused: RefusedToken) -> Outcome | None:
        """Get the account another token than the one refused; None where a refresh is not worth it.

        Where none is to be had, that may be the account's fault; so it may be when a fresh one is refused.
        """
        pool = self._pools().get(refused.pool)
        member = pool.get(refused.key) if pool is not None else None
        if pool is None or member is None or not isinstance(member.record, Account):
            return Gone(detail="the account is gone or broken")
        renewable, outcome = _is_renewable(pool, member.account), None
        if self._worth_a_refresh(pool, member, refused):
            outcome = await self._replace(member, refused.access_token)
        if isinstance(outcome, Dead | Gone):
            return outcome
        pool = self._pools().get(refused.pool)  # now: they may have been swapped meanwhile
        member = pool.get(refused.key) if pool is not None else None
        if pool is None or member is None:
            return outcome
        if isinstance(outcome, Ready):
            if outcome.posted:
                pool.suspects.refusals(member).refreshed(outcome.account.generation, self._clock.time())
            if outcome.account.token.access_token != refused.access_token:
                return outcome
        without_token = renewable and outcome is not None and not isinstance(outcome, Ready)
        sure = 1 if isinstance(outcome, Misconfigured) else SURE_COUNT  # the provider refuses it as well
        if pool.suspects.refused(member, refused, self._clock.time(), sure=sure):
            self._blame(pool, member, refused, without_token=without_token)
        return outcome

    def _worth_a_refresh(self, pool: Pool, member: Member, refused: RefusedToken) -> bool:
        if pool.config.type == "static" or refused.renewed:
            return False
        if member.account.token.access_token != refused.access_token:
            return True  # somebody has refreshed it: there is nothing left to do
        return member.refusals is None or member.refusals.may_refresh(self._clock.time())

    def _blame(self, pool: Pool, member: Member, refused: RefusedToken, *, without_token: bool) -> None:
        """Leave an account out whose token is refused, for a while that grows; unless it has another one by now."""
        if not isinstance(member.record, Account) or member.account.token.access_token != refused.access_token:
            return
        reason = TOKEN_REFUSED
        if without_token:
            reason += ", and no new one can be had"
            pool.suspects.out_of_tokens(member, refused.access_token)
            pool.cool(member.key, max(member.retry_at, self._clock.time() + 1), reason)
            self._plan(member)
        withheld = member.refusals is not None and not refused.renewed and pool.config.type != "static"
        latest = member.refusals.next_refresh_at if withheld and member.refusals is not None else None
        self._limits.refuse(pool, member, reason, refused.sent_at, latest)

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
    """Whether there is anything to present to a token endpoint, or a plugin to ask for a token."""
    if pool.config.type == "refresh_token":
        return account.token.refresh_token is not None
    return pool.config.type != "static"


def _proves(answer: UpstreamAnswer) -> bool:
    """Whether an answer shows that the account is served again: no error of the upstream's own does.

    gRPC says it at the end, unless it refuses at once.
    """
    content_type = (answer.header("content-type") or "").lstrip().lower()
    unsaid = content_type.startswith("application/grpc") and answer.header("grpc-status") is None
    return answer.status < 500 and not unsaid


def _serves(answer: UpstreamAnswer) -> bool:
    """Whether an answer gives what was asked for: an upstream may say 404, or send to a login page, whoever asks."""
    return 200 <= answer.status < 300 or answer.status == 304
