"""One refresh of one account: the lock, the re-read, the intent, the POST, and what the answer means."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.accounts.confirmation import confirm_from
from authpool.accounts.printable import clip_reason
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import StoreError
from authpool.oauth.discovery import DiscoveryError, EndpointResolver
from authpool.oauth.grant_request import GrantRequest, client_name, grant_request, source_name, without_secrets
from authpool.oauth.token_client import TokenEndpoint
from authpool.oauth.token_requests import TOO_LATE, TokenRequests, enough_time
from authpool.oauth.verdict import (
    Answer,
    ClientRejected,
    Granted,
    GrantRejected,
    PartlyGranted,
    SignInRequired,
    TryLater,
    Verdict,
)
from authpool.refresh.client_watch import ClientWatch
from authpool.refresh.conditional_change import SupersededError
from authpool.refresh.disable_rules import DisableRules
from authpool.refresh.endpoint_watch import EndpointWatch, blames_endpoint, presenter
from authpool.refresh.held_account import HeldAccount
from authpool.refresh.ledger import Ledger
from authpool.refresh.outcome import (
    Dead,
    Gone,
    Misconfigured,
    Outcome,
    Ready,
    Rejected,
    Unavailable,
    already_refreshed,
    from_memory,
    from_successor,
)
from authpool.refresh.pending_writes import PendingWrites
from authpool.refresh.pool_trouble import Troubles
from authpool.refresh.source_tokens import SourceTokens
from authpool.refresh.token_source import TokenSource
from authpool.store import Hold, Store

logger = logging.getLogger(__name__)

FLIGHTS_PER_ENDPOINT = 16
LOCK_SECONDS = 30.0
"""A flight waits so long for the account, so that those whose holder hangs do not take up every slot."""

type Mode = Literal["request", "probe", "force", "confirm"]
"""How far a flight may go: what is known to be down is asked by a probe when it is due, and by force at any time.

To `confirm` is to force, unless somebody else has confirmed it already."""
_FORCED = frozenset({"force", "confirm"})


class Exchange:
    """Exchanges the credential of an account for an access token, for one refresher."""

    def __init__(
        self,
        *,
        store: Store,
        resolver: EndpointResolver,
        pools: Callable[[], Mapping[str, PoolConfig]],
        sources: Callable[[], Mapping[str, TokenSource]],
        clock: Clock,
        endpoints: EndpointWatch,
        endpoint: TokenEndpoint,
        rng: random.Random,
        late: PendingWrites,
        ledger: Ledger,
        clients: ClientWatch,
        rules: DisableRules,
        source_tokens: SourceTokens,
        troubles: Troubles,
        may_present: Callable[[Hold, Account], Awaitable[Outcome | None]] | None,
    ) -> None:
        self._troubles = troubles
        self._may_present = may_present
        self._store = store
        self._resolver = resolver
        self._pools = pools
        self._sources = sources
        self._clock = clock
        self._endpoints = endpoints
        self._requests = TokenRequests(endpoint, clock, rng, self._heard)
        self._pending_writes = late
        self._ledger = ledger
        self._clients = clients
        self._rules = rules
        self._source_tokens = source_tokens
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def refresh(self, seen: Account, rejected: str | None, mode: Mode) -> Outcome:
        """Get a live access token, as `Refresher.refresh`. Raises StoreError."""
        unwritten = self._pending_writes.get(seen.key)
        if unwritten is not None:
            return from_memory(unwritten, rejected, self._clock.time())
        pool = self._pools().get(seen.pool)
        if pool is None:
            return Gone(detail="the pool is not configured any more")
        if pool.type == "static":
            return Unavailable(detail="a static credential can't be refreshed", cause="account")
        try:
            asked = self._sources().get(pool.name) or pool.token_url
            asked = asked or (await self._resolver.resolve(pool, "force" if mode == "confirm" else mode)).token_url
        except DiscoveryError as error:
            wait = error.retry_after_seconds
            later = Unavailable(detail=str(error), retry_after_seconds=wait, asked=wait is None)
            return later if error.transient else Misconfigured(detail=str(error))
        if asked is None:
            return Misconfigured(detail="no token_url is configured or discovered")
        if isinstance(asked, str) and (held_back := self._held_back(asked, mode)) is not None:
            return held_back
        whom = asked if isinstance(asked, str) else source_name(pool)
        slots = self._slots.setdefault(whom, asyncio.Semaphore(FLIGHTS_PER_ENDPOINT))
        async with slots, AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(LOCK_SECONDS):
                    hold = await stack.enter_async_context(self._store.hold(seen.key))
            except TimeoutError:
                return Unavailable(detail="another process holds the account and does not move on", cause="store")
            if self._pools().get(seen.pool) == pool:
                held = HeldAccount(hold=hold, stack=stack)
                return await self._refresh_held(held, seen, rejected, pool, asked, mode)
        return await self.refresh(seen, rejected, mode)  # reconfigured while we waited

    def trouble(self, account: Account) -> Misconfigured | Unavailable | None:
        """What stands against asking for the account, of its client or of its token endpoint; None when nothing."""
        pool = self._pools().get(account.pool)
        if pool is None or pool.name in self._sources() or (url := self._resolver.known_token_url(pool)) is None:
            return None
        fault = self._clients.held_back(client_name(url, pool, account), pool.name, account.key)
        return self._held_back(url, "probe") if fault is None else Misconfigured(detail=fault.detail)

    async def _refresh_held(
        self,
        held: HeldAccount,
        seen: Account,
        rejected: str | None,
        pool: PoolConfig,
        asked: str | TokenSource,
        mode: Mode,
    ) -> Outcome:
        account = await self._ledger.read(held.hold)
        if account.disabled and mode != "force":
            return Dead(account=account)
        waits = account.rejected_at() is not None
        if mode != "force" and not waits and already_refreshed(account, seen, rejected, self._clock.time()):
            return Ready(account=account, posted=False)
        if isinstance(asked, TokenSource):
            return await self._source_tokens.refresh(held, account, asked, pool, force=mode in _FORCED)
        url = asked
        if pool.type == "refresh_token" and account.token.refresh_token is None:
            return Unavailable(detail="the account has no refresh token: re-add it", cause="account")
        request = grant_request(pool, url, account)
        if waits and (waiting := self._too_early(account, request)) is not None:
            return waiting
        fault = self._clients.held_back(request.client, pool.name, account.key)
        if fault is not None and mode not in _FORCED:
            if waits and fault.storm:
                await self._rules.spare(held.hold, account)
            return Misconfigured(detail=fault.detail)
        if (held_back := self._held_back(url, mode)) is not None:
            return held_back
        if self._may_present is not None and (instead := await self._may_present(held.hold, account)) is not None:
            return instead
        self._endpoints.begin(url, presenter(request))
        try:
            return await self._spend_what_comes(held, account, pool, request)
        finally:
            self._endpoints.end(url, presenter(request))

    async def _spend_what_comes(
        self, held: HeldAccount, account: Account, pool: PoolConfig, request: GrantRequest
    ) -> Outcome:
        """Present the refresh token, and a new one that came without an access token: once, then when it is due."""
        if not enough_time(held.hold.deadline, self._clock):
            return Unavailable(detail=TOO_LATE, cause="store")
        outcome = await self._spend(held, account, pool, request)
        renewed = outcome.account if isinstance(outcome, Unavailable) else None
        if renewed is not None and self._pending_writes.get(account.key) is None:
            outcome = await self._spend(held, renewed, pool, grant_request(pool, request.url, renewed))
            if isinstance(outcome, Unavailable) and outcome.account is None:
                outcome = replace(outcome, account=renewed)
        return outcome

    def _held_back(self, url: str, mode: Mode) -> Unavailable | None:
        now = self._clock.monotonic()
        return None if mode in _FORCED else self._endpoints.held_back(url, now, probe=mode == "probe")

    def _too_early(self, account: Account, request: GrantRequest) -> Rejected | None:
        """An answer of another client is not to be waited for."""
        pending = account.pending()
        if pending is None or pending.rejected_at is None or pending.client not in {None, fingerprint(request.client)}:
            return None
        now = self._clock.time()
        confirm_at = confirm_from(pending.rejected_at, now)
        return Rejected(account=account, confirm_at=confirm_at) if now < confirm_at else None

    async def _spend(self, held: HeldAccount, account: Account, pool: PoolConfig, request: GrantRequest) -> Outcome:
        """Present the account's refresh token: intent, POST, and what the verdict asks for. While it is held."""
        outcome: Outcome
        hold = held.hold
        try:
            intent = await self._ledger.intend(hold, account, request.client)
            account = intent.account
            asked_at = self._clock.time()
            may_ask_again = partial(self._may_ask_again, hold, account)
            verdict, lost = await self._requests.ask(request, pool, hold.deadline, may_ask_again)
            reason = without_secrets(getattr(verdict, "reason", ""), account, pool)
            match verdict:
                case Granted() | PartlyGranted():
                    outcome = await self._ledger.keep(held, account, verdict, asked_at)
                    await self.accepted(request, pool, account.key)
                    return outcome
                case TryLater():
                    wait = verdict.retry_after_seconds
                    outcome = Unavailable(detail=verdict.detail, retry_after_seconds=wait, endpoint=request.url)
                case _ if self._pools().get(account.pool) != pool:
                    outcome = Unavailable(detail="the pool's configuration changed meanwhile", retry_after_seconds=1)
                case ClientRejected(code=code):
                    detail = f"the token endpoint rejects the client: {reason}"
                    outcome = self._rules.reject_client(account, pool, request.client, code, detail)
                case GrantRejected() | SignInRequired() if pool.type == "client_credentials":
                    outcome = Unavailable(detail=clip_reason(reason), cause="account")
                case GrantRejected() | SignInRequired():
                    person = isinstance(verdict, SignInRequired)  # nothing that passes, nor that was lost
                    outcome = await self._rules.condemn(
                        held,
                        account,
                        pool,
                        request.client,
                        reason,
                        confirmed=person or intent.confirming,
                        lost=not person and (lost or intent.cut_off),
                    )
                    if not (account.disabled or isinstance(outcome, Unavailable)):
                        return outcome
            if not (intent.cut_off or lost):
                await self._ledger.withdraw(hold, account, intent.before)
        except SupersededError as superseded:
            return from_successor(superseded.current, self._clock.time())
        return outcome

    async def _may_ask_again(self, hold: Hold, intended: Account) -> bool:
        """Whether the record, whatever an editor made of it, lets the same token be presented once more."""
        if self._may_present is not None:
            with suppress(StoreError):  # not to be read at this moment: it says nothing against it
                if await self._may_present(hold, await hold.read()) is not None:
                    return False
        return await self._ledger.still_intended(hold, intended)

    async def accepted(self, request: GrantRequest, pool: PoolConfig, key: AccountKey | None = None) -> None:
        """A request was granted: nothing stands against its client any more."""
        try:
            if await self._clients.accepted(request.client, key) is not None:
                logger.warning("Pool %s: the token endpoint accepts the client again", pool.name)
            self._troubles.client_accepted(pool.name, request.client)
        except Exception:
            logger.exception("That a client of pool %s was accepted could not be noted", pool.name)

    async def ask(self, request: GrantRequest, pool: PoolConfig, deadline: float | None = None) -> tuple[Verdict, bool]:
        """POST a request, as `TokenRequests.ask`; whoever calls this holds the account, where there is one."""
        return await self._requests.ask(request, pool, deadline)

    def _heard(self, request: GrantRequest, pool: PoolConfig, answer: Answer, verdict: Verdict) -> None:
        """What an answer tells of its endpoint: whether it is down, or back."""
        host = urlsplit(request.url).hostname
        if not (isinstance(verdict, TryLater) and blames_endpoint(answer, verdict)):
            if self._endpoints.answered(request.url):
                logger.warning("The token endpoint at %s answers again", host)
            self._troubles.endpoint_up(pool.name, request.url)
            return
        wait = verdict.retry_after_seconds
        if self._endpoints.failed(request.url, presenter(request), self._clock.monotonic(), wait):
            logger.error(
                "The token endpoint at %s is down (%s): its accounts serve while their tokens live, and one probe "
                "at a time asks it",
                host,
                verdict.detail,
            )
        if self._endpoints.down(request.url):
            self._troubles.endpoint_down(pool.name, request.url, verdict.detail)
