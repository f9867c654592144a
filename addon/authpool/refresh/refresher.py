"""The refresh protocol: how a token is refreshed, and when an account may be disabled.

One flight per account and process, a kernel lock per account across processes, a re-read under it, the intent on
disk before the POST, the new pair on disk before its use, and a verdict only on what the store still holds.
Each of these was needed: without the lock and the re-read, six processes that refresh one token leave it dead.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.confirmation import LATEST_SECONDS
from authpool.accounts.events import Notify, NotifyPool
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import BrokenAccountError, StoreError, UnknownAccountError
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.grant_request import GrantRequest, client_name, source_name
from authpool.oauth.token_client import TokenEndpoint
from authpool.oauth.verdict import Verdict
from authpool.refresh.client_watch import ClientWatch
from authpool.refresh.disable_rules import DisableRules, Everyone
from authpool.refresh.endpoint_watch import EndpointWatch
from authpool.refresh.exchange import Exchange, Mode
from authpool.refresh.ledger import Ledger
from authpool.refresh.outcome import Gone, Misconfigured, Outcome, Ready, Rejected, Unavailable
from authpool.refresh.pending_writes import PendingWrites
from authpool.refresh.pool_trouble import Troubles
from authpool.refresh.replaced_tokens import ReplacedTokens
from authpool.refresh.source_tokens import SourceTokens
from authpool.refresh.token_source import TokenSource
from authpool.store import Hold, Store

logger = logging.getLogger(__name__)

ROUNDS = 3
"""So often a caller asks again that was answered with what it can't use: the token it brought, or a rejection."""


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
        notify_pool: NotifyPool = lambda event: None,
        settled: Callable[[AccountKey, Outcome], None] = lambda key, outcome: None,
        everyone: Everyone | None = None,
        rng: random.Random | None = None,
        may_present: Callable[[Hold, Account], Awaitable[Outcome | None]] | None = None,
        is_spent: Callable[[Account], Awaitable[bool]] | None = None,
    ) -> None:
        """`everyone` reads all accounts, and tells what changed to `followed`: asked before a verdict.

        `may_present` is asked under the lock, before a refresh token is presented: None, or what to answer instead.
        `is_spent` tells whether an account exchanged the refresh token in its record, as everybody knows by now.
        """
        self._store = store
        self._resolver = resolver
        self._pools = pools
        self._clock = clock
        self._settled = settled
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._flights: dict[AccountKey, asyncio.Task[Outcome]] = {}
        self._forced: set[asyncio.Task[Outcome]] = set()
        self._refused: dict[asyncio.Task[Outcome], str | None] = {}
        """Which access token each flight does not hand back."""
        self._closing = False
        self._endpoints = EndpointWatch(self._rng)
        self._troubles = Troubles(notify_pool, pools, clock)
        self._pending_writes = PendingWrites(clock, self._rng)
        self._replaced_tokens = ReplacedTokens()
        self._ledger = Ledger(self._pending_writes, self._replaced_tokens, clock, notify, is_spent)
        self._clients = ClientWatch(store, clock)
        self._rules = DisableRules(
            self._ledger, self._clients, everyone or _nobody, pools, resolver, clock, self._troubles
        )
        self.source_tokens = SourceTokens(self._ledger, self._clients, self._rules, pools, clock, self._troubles)
        self._exchange = Exchange(
            store=store,
            resolver=resolver,
            pools=pools,
            sources=sources,
            clock=clock,
            endpoints=self._endpoints,
            endpoint=endpoint,
            rng=self._rng,
            late=self._pending_writes,
            ledger=self._ledger,
            clients=self._clients,
            rules=self._rules,
            source_tokens=self.source_tokens,
            troubles=self._troubles,
            may_present=may_present,
        )

    async def refresh(
        self, account: Account, *, rejected: str | None = None, force: bool = False, probe: bool = False
    ) -> Outcome:
        """Get a live access token for `account`, given as the caller last saw it.

        Callers that come while a flight is under way share it, and may leave without ending it. `rejected` is an
        access token that an upstream refused: it will not be handed back. `force` asks the token endpoint whatever
        is stored, disabled or held back, and waits until a rejection is confirmed. `probe`: this one may find out
        whether an endpoint that is down is back; others are answered at once. `settled` hears of each flight once,
        before its callers. Raises nothing: what went wrong is in the outcome.
        """
        if not force:
            return await self._share(account, rejected, "probe" if probe else "request")
        outcome = await self._share(account, rejected, "force")
        for _ in range(ROUNDS):
            if not isinstance(outcome, Rejected):
                break
            wait = max(0.0, outcome.confirm_at - self._clock.time()) + self._rng.uniform(0, 1)
            logger.warning(
                "Account %s: invalid_grant; the token endpoint is asked once more in %.0f s, for some of them pass",
                account.address,
                wait,
            )
            await self._clock.sleep(min(wait, LATEST_SECONDS))
            outcome = await self._share(account, rejected, "confirm")
        return outcome

    async def _share(self, account: Account, rejected: str | None, mode: Mode) -> Outcome:
        """Join the flight under way, or begin one; again, where that one knew nothing of the token `rejected`."""
        outcome: Outcome = Unavailable(detail="the gateway is stopping", cause="account")
        for number in range(ROUNDS):
            flight = self._flights.get(account.key) if number == 0 and mode != "force" else self._under_way(account.key)
            while mode == "force" and flight is not None:  # that one may answer from what is stored: let it land first
                await asyncio.shield(flight)
                flight = self._under_way(account.key)
                if flight in self._forced:
                    break  # somebody who waited as well asks now
            if flight is None and self._closing:
                return outcome
            flight = flight or self._begin(account, rejected, mode)
            told = self._refused.get(flight, rejected)
            outcome = await asyncio.shield(flight)
            handed_back = isinstance(outcome, Ready) and outcome.account.token.access_token == rejected
            if rejected is None or told == rejected or not handed_back:
                break
        return outcome

    def _begin(self, account: Account, rejected: str | None, mode: Mode) -> "asyncio.Task[Outcome]":
        flight = asyncio.create_task(self._fly(account, rejected, mode), name=f"refresh {account.address}")
        if not flight.done():  # an eager task factory may have run it to its end already
            self._flights[account.key] = flight
            self._refused[flight] = rejected
            self._forced.update([flight] if mode == "force" else [])
            flight.add_done_callback(lambda landed: self._forget(account.key, landed))
        return flight

    def _under_way(self, key: AccountKey) -> "asyncio.Task[Outcome] | None":
        """A flight that has not landed; to wait for one that has, and is not forgotten yet, would not even yield."""
        flight = self._flights.get(key)
        return None if flight is None or flight.done() else flight

    def _forget(self, key: AccountKey, landed: "asyncio.Task[Outcome]") -> None:
        self._forced.discard(landed)
        self._refused.pop(landed, None)
        if self._flights.get(key) is landed:
            del self._flights[key]

    def refreshing(self, key: AccountKey) -> bool:
        return key in self._flights

    def fault(self, pool: str) -> str | None:
        """Why the refreshes of a pool's client are held back, for people; None when they are not."""
        config = self._pools().get(pool)
        url = None if config is None else self._resolver.known_token_url(config)
        own = [] if config is None or url is None else [client_name(url, config, Account(pool=pool, name=""))]
        return self._clients.fault_of(pool, own)

    def held_back(self, account: Account) -> Misconfigured | Unavailable | None:
        """Why the account's client or token endpoint is not to be asked now, where nobody forces it."""
        return self._exchange.trouble(account)

    async def recall(self) -> None:
        """Take in which storms stand, as far as the store tells."""
        with suppress(StoreError):  # what is known stands; before a verdict the store is asked again
            await self._clients.recall()

    async def end_storms(self, pool: PoolConfig, accounts: Collection[Account]) -> bool:
        """Somebody says that a pool's clients are well: whether one was held back for a storm. Raises StoreError."""
        await self.recall()
        url = self._resolver.known_token_url(pool)
        names = {source_name(pool)} if url is None else {client_name(url, pool, Account(pool=pool.name, name=""))}
        names |= self._clients.clients_of(pool.name)
        names |= {client_name(url, pool, account) for account in accounts if url is not None}
        return any([await self._clients.end_storm(name) for name in sorted(names)])

    def endpoint_down(self, url: str) -> bool:
        return self._endpoints.down(url)

    def forget_faults(self) -> None:
        """Somebody changed the configuration: ask the clients again; a storm stands until one is accepted."""
        self._clients.forget()
        self._troubles.doubt()

    def loaded(self, account: Account) -> None:
        """This process knows of the account from now on."""
        self._replaced_tokens.seen(account)

    def followed(self, before: Account, after: Account) -> bool:
        """The store has another record of an account; True when it holds a spent refresh token again: `heal` it."""
        self._replaced_tokens.followed(before, after)
        self._rules.followed(before, after)
        return self._replaced_tokens.heal(after) is not None

    def unwritten(self, key: AccountKey) -> Account | None:
        """The account as the store would have it, had it taken it; None when it is not behind."""
        return self._pending_writes.get(key)

    def replaced(self, spent: Account, newest: Account) -> None:
        """Somebody put a spent refresh token back whose successor this process still has."""
        self._replaced_tokens.rotated(spent, newest)

    def removed(self, key: AccountKey) -> None:
        """The account is gone: what comes under its name next is another one."""
        self._replaced_tokens.forget(key)

    async def heal(self, key: AccountKey) -> None:
        """Put the newest credential back, before anybody presents one that is spent. Raises StoreError."""
        async with self._store.hold(key) as hold:
            await self._ledger.read(hold)

    async def aclose(self, patience_seconds: float = 15.0) -> None:
        """Let flights land, so that no rotation is orphaned, and write what is left to write."""
        self._closing = True  # who asks from here on joins a flight under way, or none
        flights = list(self._flights.values())
        if flights:
            await asyncio.wait(flights, timeout=patience_seconds)
        await self._pending_writes.aclose()
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    # --- one flight -------------------------------------------------------------------------------------------

    async def _fly(self, seen: Account, rejected: str | None, mode: Mode) -> Outcome:
        outcome = await self._outcome(seen, rejected, mode)
        if isinstance(outcome, Ready) and not outcome.posted:
            self._replaced_tokens.followed(seen, outcome.account)
        try:
            self._settled(seen.key, outcome)
        except Exception:
            logger.exception("What came of refreshing %s could not be applied", seen.address)
        return outcome

    async def _outcome(self, seen: Account, rejected: str | None, mode: Mode) -> Outcome:
        try:
            return await self._exchange.refresh(seen, rejected, mode)
        except (UnknownAccountError, BrokenAccountError):
            return Gone(detail="the account is gone or broken")
        except StoreError as error:
            return Unavailable(detail=str(error), cause="store")
        except Exception:
            logger.exception("Refreshing %s failed unexpectedly", seen.address)
            return Unavailable(detail="unexpected error", cause="account")

    async def ask(self, request: GrantRequest, pool: PoolConfig, deadline: float | None = None) -> tuple[Verdict, bool]:
        """POST a request, as `TokenRequests.ask`; whoever calls this holds the account, where there is one.

        Where it is granted, `accepted` is to be told once what was granted is safe.
        """
        return await self._exchange.ask(request, pool, deadline)

    async def accepted(self, request: GrantRequest, pool: PoolConfig) -> None:
        """What was granted to `ask` is safe: nothing stands against its client any more."""
        await self._exchange.accepted(request, pool)


async def _nobody() -> Collection[Account]:
    return ()
