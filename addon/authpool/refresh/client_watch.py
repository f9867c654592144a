"""Telling a dead client from dead accounts, and holding back the refreshes of a client that is rejected."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from authpool.accounts.account import Account, AccountKey
from authpool.clock import Clock
from authpool.errors import StoreError
from authpool.store import Store
from authpool.store.client_record import ACCOUNTS, WINDOW_SECONDS, ClientRecord, Rejection

__all__ = ["ACCOUNTS", "WINDOW_SECONDS", "ClientWatch", "Fault"]

logger = logging.getLogger(__name__)

FAULT_SECONDS = 60.0
"""So long a client that is at fault is not asked again, unless somebody says so."""
ACCEPTED_SECONDS = 600.0
"""So long after it was accepted for one account, a client is not at fault when another account is refused."""
PROBE_SECONDS = 2.0
"""In a storm, accounts that were not rejected themselves are asked at this pace: one that is accepted ends it."""

WAY_OUT = (
    "mend that, or the pool's settings, or add an account again: the first success ends this, and so does "
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
    witness: AccountKey | None = None
    """The only account for which the client was refused so far: one other may be asked, to tell whose fault it is."""


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
        self._rejected: dict[str, set[AccountKey]] = {}
        """Whose credential was rejected since each client was accepted last, to this process."""
        self._probed: dict[str, float] = {}
        """When an account was asked last although a storm stands against its client (monotonic seconds)."""

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
        self._rejected.pop(client, None)
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
        self._rejected.pop(client, None)
        return self._faults.pop(client, None)

    def accepted_for_others(self, client: str, account: AccountKey) -> bool:
        """Whether the client was accepted for another account lately: then what is refused is the account."""
        since = self._clock.monotonic() - ACCEPTED_SECONDS
        return any(at > since for key, at in self._accepted.get(client, {}).items() if key != account)

    # --- holding back -----------------------------------------------------------------------------------------

    def blame(
        self, client: str, pool: str, detail: str, *, storm: bool = False, witness: AccountKey | None = None
    ) -> bool:
        """Hold the client's refreshes back for a while; True when that is news to the pool.

        `witness`: what was said may be of this account alone, and counts in full when another one is told it too.
        """
        known = self._faults.get(client)
        pools = frozenset() if known is None else known.pools
        now = self._clock.time()
        if known is not None and _stands(known, now) and known.witness != witness:
            witness = None
        self._faults[client] = Fault(
            pools=pools | {pool}, detail=detail, until=now + FAULT_SECONDS, storm=storm, witness=witness
        )
        return pool not in pools

    def held_back(self, client: str, pool: str, account: AccountKey | None = None) -> Fault | None:
        """The fault for which the client is not to be asked now, by this pool as little as by the one that met it.

        Where one account alone told of it, `account` is let go and asked, if it is another and the first to come. In a
        storm it is if it was not rejected itself, and none was let go a moment ago: rejected ones must not keep the
        only one that lives from ending the storm.
        """
        fault = self._faults.get(client)
        if fault is None or not _stands(fault, self._clock.time()):
            return None
        if fault.witness is not None and account not in {None, fault.witness}:
            self._faults[client] = replace(fault, witness=None)
            return None
        if fault.storm and account is not None and self._may_probe(client, account):
            return None
        if pool not in fault.pools:
            fault = self._faults[client] = replace(fault, pools=fault.pools | {pool})
        return fault

    def note_rejected(self, client: str, account: AccountKey) -> None:
        """The account's credential was rejected, whatever will come of that."""
        self._rejected.setdefault(client, set()).add(account)

    def _may_probe(self, client: str, account: AccountKey) -> bool:
        now = self._clock.monotonic()
        if account in self._rejected.get(client, ()) or now < self._probed.get(client, -PROBE_SECONDS) + PROBE_SECONDS:
            return False
        self._probed[client] = now
        return True

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
        self._rejected.clear()


def _stands(fault: Fault, now: float) -> bool:
    """An `until` further away than it can have been set: the wall clock was put back."""
    return now < fault.until <= now + FAULT_SECONDS
