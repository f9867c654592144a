"""A store in memory in the shape that one on a database would have: claims that end by themselves, rows, revisions.

A claim is one short step that hands out a fence, and is not held by any connection. What holds an account back for a
while is a row of its own. Whoever follows compares revisions, all of them, each time.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from authpool.accounts.account import Account, AccountKey, BrokenAccount
from authpool.accounts.standing import Standing
from authpool.clients.client import BrokenClient, ClientEntry, GatewayClient
from authpool.clients.usage import Usage
from authpool.clock import Clock, SystemClock
from authpool.errors import (
    BrokenAccountError,
    BrokenClientError,
    HoldLostError,
    StoreUnavailableError,
    UnknownAccountError,
)
from authpool.store import Change, ClientChange, GatewayClientChange, Record, StandingChange
from authpool.store.audit import Entry
from authpool.store.client_record import ClientRecord

NOTICED_SECONDS = 0.02


@dataclass(slots=True, kw_only=True)
class Tables:
    """What all processes share. `connection` is another one after each cut; `away`: nothing answers."""

    credentials: dict[AccountKey, Account] = field(default_factory=dict, repr=False)
    standings: dict[AccountKey, Standing] = field(default_factory=dict)
    broken: set[AccountKey] = field(default_factory=set)
    revisions: dict[AccountKey, int] = field(default_factory=dict)
    claims: dict[AccountKey, tuple[str, float]] = field(default_factory=dict)
    clients: dict[str, ClientRecord] = field(default_factory=dict)
    gateway_clients: dict[str, ClientEntry] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    trail: list[Entry] = field(default_factory=list)
    reload: int = 0
    away: bool = False
    connection: int = 0

    def account(self, key: AccountKey) -> Account | None:
        credential = self.credentials.get(key)
        return None if credential is None else credential.with_standing(self.standings.get(key, Standing()))

    def record(self, key: AccountKey) -> Record | None:
        if key in self.broken:
            return BrokenAccount(pool=key.pool, name=key.name, reason="it was broken")
        return self.account(key)

    def touch(self, key: AccountKey) -> None:
        self.revisions[key] = self.revisions.get(key, 0) + 1


class MemoryHold:
    """One claim. `deadline` is by the monotonic clock, and was begun before the claim was sent."""

    def __init__(self, store: "MemoryStore", key: AccountKey, fence: str, deadline: float) -> None:
        self._store = store
        self.key = key
        self.fence = fence
        self.deadline: float | None = deadline

    @property
    def lost(self) -> bool:
        over = self.deadline is not None and self._store.clock.monotonic() >= self.deadline
        return over or self._store.tables.claims.get(self.key, ("", 0.0))[0] != self.fence

    async def read(self) -> Account:
        self._check()
        return await self._store.read(self.key)

    async def update(self, change: Change, *, replace_broken: bool = False) -> Account | None:
        self._check()
        return await self._store.update(self.key, change, replace_broken=replace_broken)

    async def keep_granted(self, change: Change) -> Account | None:
        return await self._store.update(self.key, change)

    def _check(self) -> None:
        if self.lost:
            raise HoldLostError(f"{self.key} is not held any more")


class MemoryStore:
    """One process's view of the tables. A claim lasts `claim_seconds`; it is taken over `margin_seconds` later."""

    def __init__(
        self, tables: Tables, clock: Clock | None = None, *, claim_seconds: float = 60.0, margin_seconds: float = 0.05
    ) -> None:
        self.tables = tables
        self.clock = clock or SystemClock()
        self._claim_seconds = claim_seconds
        self._margin_seconds = margin_seconds
        self._pools: frozenset[str] = frozenset()
        self._known: dict[AccountKey, int] = {}
        self._connection = tables.connection

    async def open(self) -> None:
        await self._connect()

    async def aclose(self) -> None:
        """Nothing is under way."""

    async def _connect(self) -> None:
        """What every statement begins with. One whose connection was cut fails; the next has a new one."""
        await asyncio.sleep(0)
        if self.tables.away:
            raise StoreUnavailableError("the store does not answer")
        if self._connection != self.tables.connection:
            self._connection = self.tables.connection
            raise StoreUnavailableError("the connection was lost")

    async def load(self, pools: Collection[str]) -> Mapping[AccountKey, Record]:
        await self._connect()
        self._pools = frozenset(pools)
        self._known = dict(self.tables.revisions)
        records = {key: self.tables.record(key) for key in self.tables.revisions if key.pool in self._pools}
        return {key: record for key, record in records.items() if record is not None}

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        await self._connect()
        revisions, known = dict(self.tables.revisions), self._known
        self._known = revisions
        changed = [key for key, number in revisions.items() if key.pool in self._pools and known.get(key) != number]
        return {key: self.tables.record(key) for key in changed}

    async def wait_for_changes(self) -> None:
        for _ in range(25):
            if self._known != self.tables.revisions:
                return
            await asyncio.sleep(NOTICED_SECONDS)

    async def read(self, key: AccountKey) -> Account:
        await self._connect()
        record = self.tables.record(key)
        if isinstance(record, BrokenAccount):
            raise BrokenAccountError(record.reason)
        if record is None:
            raise UnknownAccountError(f"there is no account {key}")
        return record

    @asynccontextmanager
    async def hold(self, key: AccountKey) -> AsyncIterator[MemoryHold]:
        fence = secrets.token_hex(8)
        while True:
            await self._connect()
            now = self.clock.monotonic()
            _, until = self.tables.claims.get(key, ("", 0.0))
            if key not in self.tables.claims or now >= until + self._margin_seconds:
                break
            await self.clock.sleep(NOTICED_SECONDS)
        self.tables.claims[key] = (fence, now + self._claim_seconds)
        try:
            yield MemoryHold(self, key, fence, now + self._claim_seconds)
        finally:
            if self.tables.claims.get(key, ("", 0.0))[0] == fence:
                del self.tables.claims[key]

    async def update(self, key: AccountKey, change: Change, *, replace_broken: bool = False) -> Account | None:
        await self._connect()
        if key in self.tables.broken and not replace_broken:
            raise BrokenAccountError("it was broken")
        before = None if key in self.tables.broken else self.tables.account(key)
        after = change(before)
        if after is before and key not in self.tables.broken:
            return before
        self.tables.broken.discard(key)
        self.tables.touch(key)
        if after is None:
            self.tables.credentials.pop(key, None)
            self.tables.standings.pop(key, None)
            return None
        after = replace(after, name=before.name) if before else after
        self.tables.credentials[key], self.tables.standings[key] = after, after.standing
        return after

    async def update_standing(self, key: AccountKey, change: StandingChange) -> Account | None:
        await self._connect()
        before = self.tables.account(key)
        if before is None:
            return None
        after = change(before.standing)
        if after != before.standing:
            self.tables.standings[key] = after
            self.tables.touch(key)
        return self.tables.account(key)

    async def read_client(self, client: str) -> ClientRecord | None:
        await self._connect()
        return self.tables.clients.get(client)

    async def clients(self) -> Mapping[str, ClientRecord]:
        await self._connect()
        return dict(self.tables.clients)

    async def update_client(self, client: str, change: ClientChange) -> ClientRecord:
        await self._connect()
        self.tables.clients[client] = change(self.tables.clients.get(client))
        return self.tables.clients[client]

    async def gateway_clients(self) -> Mapping[str, ClientEntry]:
        await self._connect()
        return dict(self.tables.gateway_clients)

    async def update_gateway_client(
        self, client: str, change: GatewayClientChange, *, replace_broken: bool = False
    ) -> GatewayClient | None:
        await self._connect()
        before = self.tables.gateway_clients.get(client.casefold())
        if isinstance(before, BrokenClient):
            if not replace_broken:
                raise BrokenClientError(before.reason)
            before = None
        after = change(before)
        if after is None:
            self.tables.gateway_clients.pop(client.casefold(), None)
        else:
            self.tables.gateway_clients[client.casefold()] = after
        return after

    async def count_usage(self, counts: Mapping[str, Usage]) -> None:
        await self._connect()
        for name, usage in counts.items():
            if (folded := name.casefold()) in self.tables.gateway_clients:
                self.tables.usage[folded] = self.tables.usage.get(folded, Usage()) + usage

    async def gateway_usage(self) -> Mapping[str, Usage]:
        await self._connect()
        return dict(self.tables.usage)

    def append(self, entry: Entry) -> None:
        self.tables.trail.append(entry)

    async def entries(self, newest: int | None = None) -> list[Entry]:
        await self._connect()
        return self.tables.trail.copy() if newest is None else self.tables.trail[-newest:]

    async def entries_since(self, position: object) -> tuple[list[Entry], object]:
        await self._connect()
        return self.tables.trail[position if isinstance(position, int) else 0 :], len(self.tables.trail)

    async def request_reload(self) -> int:
        await self._connect()
        self.tables.reload += 1
        return self.tables.reload

    async def reload_request(self) -> int:
        await self._connect()
        return self.tables.reload
