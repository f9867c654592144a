"""What is decided when a credential is refused: whose fault it is, and whether the account is disabled.

`ClientWatch` tells a dead client from dead accounts, `DisableRules` decides.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from authpool.accounts.account import Account, AccountKey, clip_reason, fingerprint
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import HoldLostError, StoreError
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.grant_request import client_name, source_name
from authpool.refresh.held_account import HeldAccount
from authpool.refresh.ledger import Ledger
from authpool.refresh.outcome import Dead, Misconfigured, Outcome, Unavailable
from authpool.refresh.pool_trouble import Troubles
from authpool.store import Hold, Store
from authpool.store.client_record import ClientRecord, Rejection

logger = logging.getLogger(__name__)

FAULT_SECONDS = 60.0
"""So long a client that is at fault is not asked again, unless somebody says so."""
ACCEPTED_SECONDS = 600.0
"""So long after it was accepted for one account, a client is not at fault when another account is refused."""

WAY_OUT = (
    "mend the client's settings, or add an account again: the first success ends this, and so does "
    "`authpool resume POOL`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why the refreshes of one client are held back, and until when (Unix seconds)."""

    pools: frozenset[str]
    """Who asks with that client, as far as they were seen to."""
    detail: str
    until: float
    storm: bool = False


class ClientWatch:
    """What token endpoints said of their clients: to this process, and as the store tells, to every other.

    A client is named by a string of `GrantRequest.client`.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._faults: dict[str, Fault] = {}
        self._records: dict[str, ClientRecord] = {}
        """As the store told them last."""
        self._accepted: dict[str, dict[AccountKey, float]] = {}
        """For which two accounts each client was accepted last, and when (monotonic seconds)."""

    # --- storms: in the store, so that no restart and no other process begins a new count ---------------------

    async def storms(self, client: str, rejection: Rejection, disabled: Collection[Account]) -> bool:
        """Whether an account that is rejected is one of a storm, were it found dead. Raises StoreError."""
        record = self._known(client, await self._store.read_client(client))
        return record.storm or record.would_storm(rejection, disabled)

    async def rejected(self, client: str, rejection: Rejection, disabled: Collection[Account]) -> bool:
        """Note that an account was found dead; True when it is one of a storm, and must not be disabled.

        `disabled`: accounts of the client that the store says are disabled. Raises StoreError: then it was not noted,
        and must not be disabled either.
        """
        return (await self._update(client, lambda record: record.rejected(rejection, disabled))).storm

    async def meet_storm(self, client: str, pool: str, reason: str) -> None:
        """Note which pool met a storm, and why, for people. Raises StoreError."""
        now = self._clock.time()
        await self._update(client, lambda record: record.with_storm(now, pool, reason))

    async def end_storm(self, client: str) -> bool:
        """Somebody says that all is well: whether anything had stood against the client. Raises StoreError."""
        before = await self._store.read_client(client)
        fault = self._faults.pop(client, None)
        if (before is not None and before.in_trouble) or client in self._records:
            await self._update(client, lambda record: record.accepted(self._clock.time()))
        return fault is not None or (before is not None and before.storm)

    async def recall(self) -> None:
        """Take in what other processes found out. Raises StoreError."""
        for client, record in (await self._store.clients()).items():
            before = self._records.get(client)
            self._records[client] = record
            fault = self._faults.get(client)
            if not record.storm and ((before is not None and before.storm) or (fault is not None and fault.storm)):
                if fault is not None and fault.storm:
                    del self._faults[client]
                for pool in before.pools if before is not None else ():
                    logger.warning("Pool %s: the client is trusted again; its refreshes go on", pool)

    def _known(self, client: str, stored: ClientRecord | None) -> ClientRecord:
        """What the store says; where it says nothing any more, what it said last: a lost file ends no storm."""
        return stored or self._records.get(client) or ClientRecord(client=client)

    async def _update(self, client: str, change: Callable[[ClientRecord], ClientRecord]) -> ClientRecord:
        stored = await self._store.update_client(client, lambda current: change(self._known(client, current)))
        self._records[client] = stored
        return stored

    # --- successes --------------------------------------------------------------------------------------------

    async def accepted(self, client: str, account: AccountKey | None = None) -> Fault | None:
        """Note a success: whatever is rejected next is an account's own fault. Returns the fault that it ends.

        In the store it is noted only where that has something to be cleared.
        """
        fault = self.heard(client, account)
        try:
            record = self._known(client, await self._store.read_client(client))
            if record.in_trouble:
                await self._update(client, lambda current: current.accepted(self._clock.time()))
        except StoreError as error:  # the next success does it
            logger.warning("That a client was accepted can't be noted: %s", error)
        else:
            if fault is None and record.storm:
                fault = Fault(pools=frozenset(record.pools), detail=record.storm_reason, until=0.0, storm=True)
        return fault

    def heard(self, client: str, account: AccountKey | None = None) -> Fault | None:
        """A success, by whichever process, that who had it notes in the store. Returns the fault that it ends."""
        if account is not None:
            last = self._accepted.setdefault(client, {})
            last.pop(account, None)
            last[account] = self._clock.monotonic()
            while len(last) > 2:
                del last[next(iter(last))]
        return self._faults.pop(client, None)

    def accepted_for_others(self, client: str, account: AccountKey) -> bool:
        """Whether the client was accepted for another account lately: then what is refused is the account."""
        since = self._clock.monotonic() - ACCEPTED_SECONDS
        return any(at > since for key, at in self._accepted.get(client, {}).items() if key != account)

    # --- holding back -----------------------------------------------------------------------------------------

    def blame(self, client: str, pool: str, detail: str, *, storm: bool = False) -> bool:
        """Hold the client's refreshes back for a while; True when that is news to the pool."""
        known = self._faults.get(client)
        pools = frozenset() if known is None else known.pools
        until = self._clock.time() + FAULT_SECONDS
        self._faults[client] = Fault(pools=pools | {pool}, detail=detail, until=until, storm=storm)
        return pool not in pools

    def held_back(self, client: str, pool: str) -> Fault | None:
        """The fault for which the client is not to be asked now, by this pool as little as by the one that met it."""
        now = self._clock.time()
        fault = self._faults.get(client)
        # An `until` further away than it can have been set: the wall clock was put back.
        if fault is None or not now < fault.until <= now + FAULT_SECONDS:
            return None
        if pool not in fault.pools:
            fault = self._faults[client] = replace(fault, pools=fault.pools | {pool})
        return fault

    def fault_of(self, pool: str, clients: Collection[str] = ()) -> str | None:
        """Why a pool's refreshes are held back, for people. `clients`: with which it asks, as far as is known."""
        faults = [fault.detail for fault in self._faults.values() if pool in fault.pools]
        storms = [
            record.storm_reason or "several accounts of one client are rejected at once: suspect the client"
            for client, record in self._records.items()
            if record.storm and (pool in record.pools or client in clients)
        ]
        return next(iter(faults + storms), None)

    def clients_of(self, pool: str) -> frozenset[str]:
        """The clients whose storm a pool is known to have met."""
        return frozenset(client for client, record in self._records.items() if pool in record.pools)

    def forget(self) -> None:
        """Somebody changed the configuration: every client is asked again at once; a storm stands all the same."""
        self._faults.clear()


type Everyone = Callable[[], Awaitable[Collection[Account]]]
"""Reads every account of the configured pools, as the store has them at that moment."""


class DisableRules:
    """Applies the disable rules, for one refresher. `client` names who asked, as `GrantRequest.client` does."""

    def __init__(
        self,
        ledger: Ledger,
        clients: ClientWatch,
        everyone: Everyone,
        pools: Callable[[], Mapping[str, PoolConfig]],
        resolver: EndpointResolver,
        clock: Clock,
        troubles: Troubles,
    ) -> None:
        self._troubles = troubles
        self._ledger = ledger
        self._clients = clients
        self._everyone = everyone
        self._pools = pools
        self._resolver = resolver
        self._clock = clock

    async def condemn(
        self,
        held: HeldAccount,
        account: Account,
        pool: PoolConfig,
        client: str,
        reason: str,
        *,
        confirmed: bool,
        lost: bool,
    ) -> Outcome:
        """Disable the account, when all the disable rules hold; a storm is judged before anything else.

        `confirmed`: it is not the first time, or needs no second. `lost`: an answer to the refresh token never
        arrived. Unless the outcome is Unavailable, what it means for the account is written. Raises SupersededError,
        and HoldLostError: who holds the account by then decides.
        """
        if account.disabled:  # it was asked by force, and is as dead as before
            return Dead(account=account)
        if held.hold.lost:
            raise HoldLostError(f"{account.address} is not held any more")
        credential = account.token.refresh_token or account.token.access_token or ""
        now = self._clock.time()
        rejection = Rejection(account=account.key, fingerprint=fingerprint(credential), at=int(now))
        try:
            disabled = await self._disabled(client)
            judge = self._clients.rejected if confirmed else self._clients.storms
            storm = await judge(client, rejection, disabled)
        except StoreError as error:  # who can't be counted must not be disabled: it may be one too many
            return Unavailable(detail=str(error), cause="store")
        if storm:
            return await self._spare(held.hold, account, pool, client, reason, lost=lost)
        if not confirmed:
            return await self._ledger.reject(held.hold, account, client, lost=lost)
        return await self._ledger.condemn(held, account, reason, lost=lost)

    def reject_client(self, account: Account, pool: PoolConfig, client: str, detail: str) -> Outcome:
        """The client was refused: its own fault, unless it was accepted for another account a moment ago."""
        if self._clients.accepted_for_others(client, account.key):
            return Unavailable(detail=clip_reason(detail), cause="account")
        return self.fault(pool, client, detail)

    async def spare(self, hold: Hold, account: Account) -> None:
        """The client is at fault: an account that waited to be confirmed does so no more. Raises SupersededError."""
        pending = account.pending()
        await self._ledger.spare(hold, account, lost=pending is not None and pending.unanswered)

    async def _spare(
        self, hold: Hold, account: Account, pool: PoolConfig, client: str, reason: str, *, lost: bool
    ) -> Outcome:
        detail = clip_reason(
            f"several accounts of one client are rejected at once ({reason}): suspect the client; "
            "no further account is disabled until one of them is accepted"
        )
        with suppress(StoreError):  # then other processes find out by themselves
            await self._clients.meet_storm(client, pool.name, detail)
        await self._ledger.spare(hold, account, lost=lost)
        return self.fault(pool, client, detail, storm=True)

    async def _disabled(self, client: str) -> list[Account]:
        """The accounts of a client that are disabled, as far as the store can tell."""
        accounts: Collection[Account] = ()
        with suppress(StoreError):  # the client's own record counts all the same
            accounts = await self._everyone()
        return [account for account in accounts if account.disabled and self._client_of(account) == client]

    def _client_of(self, account: Account) -> str | None:
        pool = self._pools().get(account.pool)
        if pool is None:
            return None
        url = self._resolver.known_token_url(pool)
        return source_name(pool) if url is None else client_name(url, pool, account)

    def followed(self, before: Account, after: Account) -> None:
        """The store has `after` where it had `before`: a token that another process was granted clears its client."""
        new_token = after.token.access_token not in {None, before.token.access_token}
        client = self._client_of(after)
        if client is None or not new_token or after.disabled or after.generation <= before.generation:
            return
        if self._clients.heard(client, after.key) is not None:
            logger.warning("Pool %s: the token endpoint accepts the client again", after.pool)

    def fault(self, pool: PoolConfig, client: str, detail: str, *, storm: bool = False) -> Misconfigured:
        """No account is to blame: hold back the client for a while."""
        detail = clip_reason(detail)
        if self._clients.blame(client, pool.name, detail, storm=storm):
            logger.error("Pool %s: %s; %s", pool.name, detail, WAY_OUT)
        self._troubles.client_rejected(pool.name, client, detail)
        return Misconfigured(detail=detail)
