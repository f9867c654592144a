"""The refresh protocol: how a token is refreshed, and when an account may be disabled.

One flight per account and process, a kernel lock per account across processes, a re-read under it, the intent on
disk before the POST, the new pair on disk before its use, and a verdict only on what the store still holds.
Each of these was needed: without the lock and the re-read, six processes that refresh one token leave it dead.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Literal

from authpool.account import Account, AccountKey, clip_reason
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.config.discovery import DiscoveryError, EndpointResolver
from authpool.errors import BrokenAccountError, StoreError, UnknownAccountError
from authpool.events import Notify
from authpool.refresh.adoption import already_refreshed, from_memory, from_successor
from authpool.refresh.asking import Asker
from authpool.refresh.endpoint_watch import EndpointWatch, presenter
from authpool.refresh.fetching import Fetching, source_name
from authpool.refresh.grant_request import GrantRequest, grant_request, without_secrets
from authpool.refresh.hearsay import Hearsay
from authpool.refresh.late_writer import LateWriter
from authpool.refresh.ledger import Ledger
from authpool.refresh.lineage import Lineage
from authpool.refresh.outcome import Dead, Gone, Misconfigured, Outcome, Ready, Unavailable
from authpool.refresh.sentencing import Sentencing
from authpool.refresh.storm import ClientWatch
from authpool.refresh.succession import SupersededError
from authpool.refresh.token_client import TokenEndpoint
from authpool.refresh.verdict import ClientRejected, Granted, GrantRejected, SignInRequired, TryLater, Verdict
from authpool.store import Store
from authpool.token_source import TokenSource

logger = logging.getLogger(__name__)

FLIGHTS_PER_ENDPOINT = 16
LOCK_SECONDS = 30.0
"""A flight waits so long for the account, so that those whose holder hangs do not take up every slot."""

type _Mode = Literal["request", "probe", "force"]
"""How far a flight may go: what is known to be down is asked by a probe when it is due, and by force at any time."""


class Refresher:
    """Refreshes accounts of one store. Everything that presents a refresh token goes through here."""

    def __init__(
        self,
        *,
        store: Store,
        endpoint: TokenEndpoint,
        resolver: EndpointResolver,
        pools: Callable[[], Mapping[str, PoolConfig]],
        clock: Clock,
        sources: Callable[[], Mapping[str, TokenSource]] = dict,
        notify: Notify = lambda event: None,
        settled: Callable[[AccountKey, Outcome], None] = lambda key, outcome: None,
        news: Callable[[], Awaitable[None]] | None = None,
        rng: random.Random | None = None,
        may_present: Callable[[Account], Awaitable[Outcome | None]] | None = None,
    ) -> None:
        """`news` takes in what changed in the store, and tells it to `followed`: asked before a verdict.

        `may_present` is asked under the lock, before a refresh token is presented: None, or what to answer instead.
        """
        self._store = store
        self._resolver = resolver
        self._pools = pools
        self._sources = sources
        self._clock = clock
        self._settled = settled
        self._news = news or partial(asyncio.sleep, 0)
        self._may_present = may_present
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._flights: dict[AccountKey, asyncio.Task[Outcome]] = {}
        self._forced: set[asyncio.Task[Outcome]] = set()
        self._closing = False
        self._endpoints = EndpointWatch(self._rng)
        self._asker = Asker(endpoint, self._endpoints, clock, self._rng)
        self._late = LateWriter(store, clock, self._rng)
        self.unwritten = self._late.get
        self._lineage = Lineage()
        self._ledger = Ledger(store, self._late, self._lineage, clock, notify)
        self._clients = ClientWatch()
        self._hearsay = Hearsay(self._lineage, self._clients, pools, resolver, clock)
        self._rules = Sentencing(self._ledger, self._clients, self._news, clock)
        self.fetching = Fetching(self._ledger, self._clients, self._rules, pools, clock)
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def refresh(
        self, account: Account, *, rejected: str | None = None, force: bool = False, probe: bool = False
    ) -> Outcome:
        """Get a live access token for `account`, given as the caller last saw it.

        Callers that come while a flight is under way share it, and may leave without ending it. `rejected` is an
        access token that an upstream refused: it will not be handed back. `force` asks the token endpoint whatever
        is stored, disabled or held back. `probe`: this one may find out whether an endpoint that is down is back;
        others are answered at once. `settled` hears of each flight once, before its callers. Raises nothing: what went
        wrong is in the outcome.
        """
        flight = self._under_way(account.key) if force else self._flights.get(account.key)
        while force and flight is not None:  # that one may answer from what is stored: let it land, then ask
            await asyncio.shield(flight)
            flight = self._under_way(account.key)
            if flight in self._forced:
                break  # somebody who waited as well asks now
        if flight is None and self._closing:
            return Unavailable(detail="the gateway is stopping", cause="account")
        if flight is None:
            mode: _Mode = "force" if force else "probe" if probe else "request"
            flight = asyncio.create_task(self._fly(account, rejected, mode), name=f"refresh {account.address}")
            if not flight.done():  # an eager task factory may have run it to its end already
                self._flights[account.key] = flight
                self._forced.update([flight] if force else [])
                flight.add_done_callback(lambda landed: self._forget(account.key, landed))
        return await asyncio.shield(flight)

    def _under_way(self, key: AccountKey) -> "asyncio.Task[Outcome] | None":
        """A flight that has not landed; to wait for one that has, and is not forgotten yet, would not even yield."""
        flight = self._flights.get(key)
        return None if flight is None or flight.done() else flight

    def _forget(self, key: AccountKey, landed: "asyncio.Task[Outcome]") -> None:
        self._forced.discard(landed)
        if self._flights.get(key) is landed:
            del self._flights[key]

    def refreshing(self, key: AccountKey) -> bool:
        return key in self._flights

    def fault(self, pool: str) -> str | None:
        """Why the refreshes of a pool's client are held back, for people; None when they are not."""
        return self._clients.fault_of(pool)

    def endpoint_down(self, url: str) -> bool:
        return self._endpoints.down(url)

    def forget_faults(self) -> None:
        """Somebody changed the configuration: ask the clients again."""
        self._clients.forget()

    def loaded(self, account: Account) -> None:
        """This process knows of the account from now on."""
        self._lineage.seen(account)

    def followed(self, before: Account, after: Account) -> bool:
        """The store has another record of an account; True when it holds a spent refresh token again: `heal` it."""
        self._hearsay.followed(before, after)
        return self._lineage.heal(after) is not None

    def replaced(self, spent: Account, newest: Account) -> None:
        """Somebody put a spent refresh token back whose successor this process still has."""
        self._lineage.rotated(spent, newest)

    def removed(self, key: AccountKey) -> None:
        """The account is gone: what comes under its name next is another one."""
        self._lineage.forget(key)

    async def heal(self, key: AccountKey) -> None:
        """Put the newest credential back, before anybody presents one that is spent. Raises StoreError."""
        async with self._store.lock(key):
            await self._ledger.read(key)

    async def aclose(self, patience_seconds: float = 15.0) -> None:
        """Let flights land, so that no rotation is orphaned, and write what is left to write."""
        self._closing = True  # who asks from here on joins a flight under way, or none
        flights = list(self._flights.values())
        if flights:
            await asyncio.wait(flights, timeout=patience_seconds)
        await self._late.aclose()
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    # --- one flight -------------------------------------------------------------------------------------------

    async def _fly(self, seen: Account, rejected: str | None, mode: _Mode) -> Outcome:
        outcome = await self._outcome(seen, rejected, mode)
        if isinstance(outcome, Ready) and not outcome.posted:
            self._lineage.followed(seen, outcome.account)
        try:
            self._settled(seen.key, outcome)
        except Exception:
            logger.exception("What came of refreshing %s could not be applied", seen.address)
        return outcome

    async def _outcome(self, seen: Account, rejected: str | None, mode: _Mode) -> Outcome:
        try:
            return await self._refresh(seen, rejected, mode)
        except (UnknownAccountError, BrokenAccountError):
            return Gone(detail="the account is gone or broken")
        except StoreError as error:
            return Unavailable(detail=str(error), cause="store")
        except Exception:
            logger.exception("Refreshing %s failed unexpectedly", seen.address)
            return Unavailable(detail="unexpected error", cause="account")

    async def _refresh(self, seen: Account, rejected: str | None, mode: _Mode) -> Outcome:
        unwritten = self._late.get(seen.key)
        if unwritten is not None:
            return from_memory(unwritten, rejected, self._clock.time())
        pool = self._pools().get(seen.pool)
        if pool is None:
            return Gone(detail="the pool is not configured any more")
        if pool.type == "static":
            return Unavailable(detail="a static credential can't be refreshed", cause="account")
        try:
            asked = self._sources().get(pool.name) or pool.token_url or (await self._resolver.resolve(pool)).token_url
        except DiscoveryError as error:
            return Unavailable(detail=str(error)) if error.transient else Misconfigured(detail=str(error))
        if asked is None:
            return Misconfigured(detail="no token_url is configured or discovered")
        if isinstance(asked, str) and (held_back := self._held_back(asked, mode)) is not None:
            return held_back
        whom = asked if isinstance(asked, str) else source_name(pool)
        slots = self._slots.setdefault(whom, asyncio.Semaphore(FLIGHTS_PER_ENDPOINT))
        async with slots, AsyncExitStack() as held:
            try:
                async with asyncio.timeout(LOCK_SECONDS):
                    await held.enter_async_context(self._store.lock(seen.key))
            except TimeoutError:
                return Unavailable(detail="another process holds the account and does not move on", cause="store")
            if self._pools().get(seen.pool) == pool:
                return await self._refresh_held(seen, rejected, pool, asked, held, mode)
        return await self._refresh(seen, rejected, mode)  # reconfigured while we waited

    async def _refresh_held(
        self,
        seen: Account,
        rejected: str | None,
        pool: PoolConfig,
        asked: str | TokenSource,
        held: AsyncExitStack,
        mode: _Mode,
    ) -> Outcome:
        account = await self._ledger.read(seen.key)
        if account.disabled and mode != "force":
            return Dead(account=account)
        if mode != "force" and already_refreshed(account, seen, rejected, self._clock.time()):
            return Ready(account=account, posted=False)
        if isinstance(asked, TokenSource):
            return await self.fetching.refresh(account, asked, pool, held, force=mode == "force")
        url = asked
        if pool.type == "refresh_token" and account.token.refresh_token is None:
            return Unavailable(detail="the account has no refresh token: re-add it", cause="account")
        request = grant_request(pool, url, account)
        fault = self._clients.held_back(request.client, pool.name, self._clock.time())
        if fault is not None and mode != "force":
            return Misconfigured(detail=fault.detail)
        if (held_back := self._held_back(url, mode)) is not None:
            return held_back
        if self._may_present is not None and (instead := await self._may_present(account)) is not None:
            return instead
        self._endpoints.begin(url, presenter(request))
        try:
            return await self._spend(account, pool, request, held)
        finally:
            self._endpoints.end(url, presenter(request))

    def _held_back(self, url: str, mode: _Mode) -> Unavailable | None:
        now = self._clock.monotonic()
        return None if mode == "force" else self._endpoints.held_back(url, now, probe=mode == "probe")

    async def _spend(self, account: Account, pool: PoolConfig, request: GrantRequest, held: AsyncExitStack) -> Outcome:
        """Present the account's refresh token: intent, POST, and what the verdict asks for. Under the lock."""
        outcome: Outcome
        try:
            cut_off, account = await self._ledger.intend(account)
            asked_at = self._clock.time()
            verdict, lost = await self.ask(request, pool)
            reason = without_secrets(getattr(verdict, "reason", ""), account, pool)
            match verdict:
                case Granted():
                    return await self._ledger.keep(account, verdict, asked_at, held)
                case TryLater():
                    wait = verdict.retry_after_seconds
                    outcome = Unavailable(detail=verdict.detail, retry_after_seconds=wait, endpoint=request.url)
                case _ if self._pools().get(account.pool) != pool:
                    outcome = Unavailable(detail="the pool's configuration changed meanwhile", retry_after_seconds=1)
                case ClientRejected():
                    outcome = self._rules.fault(
                        pool, request.client, f"the token endpoint rejects the client: {reason}"
                    )
                case GrantRejected() | SignInRequired() if pool.type == "client_credentials":
                    outcome = Unavailable(detail=clip_reason(reason), cause="account")
                case GrantRejected():
                    outcome = await self._rules.condemn(
                        account, pool, request.client, reason, lost=lost or cut_off, held=held
                    )
                case SignInRequired():
                    outcome = await self._rules.condemn(account, pool, request.client, reason, lost=False, held=held)
            if not (cut_off or lost):
                await self._ledger.withdraw(account)
        except SupersededError as superseded:
            return from_successor(superseded.current, self._clock.time())
        return outcome

    async def ask(self, request: GrantRequest, pool: PoolConfig) -> tuple[Verdict, bool]:
        """POST a request, as `Asker.ask`; whoever calls this holds the account's lock, where there is an account."""
        verdict, lost = await self._asker.ask(request, pool)
        if isinstance(verdict, Granted) and self._clients.accepted(request.client) is not None:
            logger.warning("Pool %s: the token endpoint accepts the client again", pool.name)
        return verdict, lost
