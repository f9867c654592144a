"""Which accounts may present the refresh token they hold: one account for each token, and none that was exchanged.

A provider that rotates ends the whole grant when a spent token is presented. So a file that was copied into another
pool, or that a restored backup put back, is held back before it is presented by anybody.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.accounts.events import Notify
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import BrokenAccountError, StoreError, UnknownAccountError
from authpool.refresh.credential_holders import AT_ONCE, Holders
from authpool.refresh.credential_notes import CredentialNotes
from authpool.refresh.credential_rules import (
    MOVED_FROM,
    RESTORED,
    CopyOf,
    CredentialRules,
    Spent,
    as_held,
    concerned,
)
from authpool.refresh.outcome import Dead, Outcome, Unavailable
from authpool.store import Hold, Record, Store
from authpool.store.trail_index import CredentialTrail, Known

AGAIN_SECONDS = 1.0


class Ownership:
    """Judges the records of one store. What it says of a copy is written nowhere: it holds while the first is there.

    `unwritten` tells what a refresher could not write yet, `learn` lets it know that it holds the successor of a
    token that somebody put back.
    """

    def __init__(
        self,
        *,
        store: Store,
        trail: CredentialTrail,
        pools: Callable[[], Mapping[str, PoolConfig]],
        clock: Clock,
        notify: Notify = lambda event: None,
        unwritten: Callable[[AccountKey], Account | None] = lambda key: None,
        learn: Callable[[Account, Account], None] = lambda spent, newest: None,
    ) -> None:
        self._store = store
        self._trail = trail
        self._pools = pools
        self._clock = clock
        self._rules = CredentialRules(trail, unwritten)
        self._learn = learn
        self._accounts = Holders()
        self._following = False
        self._meanwhile: dict[AccountKey, Record | None] | None = None
        self._held: set[AccountKey] = set()
        """Who is held back, as far as this process knows: looked at anew whenever the store is."""
        self.notes = CredentialNotes(store, trail, clock, notify, self._found_now)

    # --- loading and following --------------------------------------------------------------------------------

    async def load(
        self,
        records: Mapping[AccountKey, Record],
        pools: Mapping[str, PoolConfig],
        *,
        known: Mapping[AccountKey, Record],
    ) -> dict[AccountKey, Record]:
        """Judge all records of a gateway's `pools`, as they were loaded; `known` are those it has so far."""
        await self._trail.catch_up()
        self._meanwhile = {}
        accounts = await Holders.of(records.values())
        for key, record in self._meanwhile.items():
            accounts.put(key, record)
        self._accounts, self._meanwhile, self._following = accounts, None, True
        for account in accounts.all():
            if self._trail.take_in(account):
                self.notes.write_soon(account.key)
        judged: dict[AccountKey, Record] = {}
        for number, (key, record) in enumerate(records.items()):
            if isinstance(record, Account) and self._rules.judge(record, self._accounts, pools) is None:
                self._held.discard(key)
                judged[key] = record
            else:
                judged[key] = await self._judge(record, pools, known.get(key))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return judged

    async def follow(
        self, changes: Mapping[AccountKey, Record | None], known: Callable[[AccountKey], Record | None]
    ) -> dict[AccountKey, Record | None]:
        """Judge what changed in the store; the answer tells as well which others stand differently for it."""
        await self._trail.catch_up()
        affected = self._held.copy()
        for key, record in changes.items():
            affected |= self._put(self._accounts, key, record)
            if isinstance(record, Account):
                self._trail.take_in(record)
            if self._meanwhile is not None:
                self._meanwhile[key] = record
        judged: dict[AccountKey, Record | None] = {}
        pools = self._pools()
        for key in [*changes, *sorted(affected - changes.keys())]:
            record = changes[key] if key in changes else self._accounts.get(key)
            standing = None if record is None else await self._judge(record, pools, known(key))
            if key in changes or _stands_differently(standing, known(key)):
                judged[key] = standing
        self._held = {key for key in self._held if self._accounts.get(key) is not None}
        return judged

    async def shown(self, records: Mapping[AccountKey, Record]) -> dict[AccountKey, Record]:
        """Judge records for somebody who only looks; nothing is written."""
        await self._trail.catch_up()
        accounts, pools = await self._holders(records), self._pools()
        shown: dict[AccountKey, Record] = {}
        for key, record in records.items():
            found = self._rules.judge(record, accounts, pools) if isinstance(record, Account) else None
            shown[key] = (
                record
                if found is None or not isinstance(record, Account)
                else as_held(record, found, self._clock.time())
            )
        return shown

    async def aclose(self) -> None:
        """Let what is being written now be written; the rest is held back by whoever comes next."""
        await self.notes.aclose()

    # --- before a token is presented --------------------------------------------------------------------------

    async def check(self, hold: Hold, account: Account) -> Outcome | None:
        """Whether an account, read while it is held, may present what it holds: None, or why not. Raises StoreError."""
        found = await self._found_now(account)
        if found is None:
            self.notes.tell_late(account)  # before what its record says of that is written over
            return None
        if isinstance(found, Spent):
            return Dead(account=await self.notes.hold_back(hold, account, found) or account)
        self._held.add(account.key)
        return Unavailable(detail=found.reason, cause="account", retry_after_seconds=AGAIN_SECONDS)

    async def is_spent(self, account: Account) -> bool:
        """Whether the account itself exchanged the refresh token that its record holds, and nobody took it up again.

        Raises StoreUnavailableError.
        """
        await self._trail.catch_up()
        known = self._trail.known(fingerprint(account.token.refresh_token or ""), account.key)
        return known is not None and known.exchanged_at is not None and known.account == account.key

    async def known(self, mark: str) -> Known | None:
        """What the trail knows of a credential, by its fingerprint."""
        await self._trail.catch_up()
        return self._trail.known(mark)

    async def marks_of(self, key: AccountKey) -> Collection[str]:
        """The fingerprints of all credentials that an account had last, by the trail."""
        await self._trail.catch_up()
        return self._trail.marks_of(key)

    def accounts(self) -> list[Account]:
        """Every account of a gateway's pools that can be read, as it is stored, copies as well."""
        return self._accounts.all()

    async def _found_now(self, account: Account) -> CopyOf | Spent | None:
        pools = self._pools()
        if not concerned(account, pools) and MOVED_FROM not in account.extra:
            return None
        await self._trail.catch_up()
        accounts = self._accounts if self._following else await self._look(pools)
        self._put(accounts, account.key, account)
        await self._read_again(account, accounts, pools)
        return self._rules.judge(account, accounts, pools)

    async def _look(self, pools: Mapping[str, PoolConfig]) -> Holders:
        """Everything there is, for a process that follows nothing."""
        return await self._holders(await self._store.load(pools.keys()))

    async def _holders(self, records: Mapping[AccountKey, Record]) -> Holders:
        holders = await Holders.of(records.values())
        for account in holders.all():
            self._trail.take_in(account)
        return holders

    async def _read_again(self, account: Account, accounts: Holders, pools: Mapping[str, PoolConfig]) -> None:
        """Read the others that may hold the same credential as they are now: what is known of them may be old."""
        known = self._trail.known(fingerprint(account.token.refresh_token or ""), account.key)
        others = set(accounts.holders(account)) | ({known.account} if known is not None else set())
        for key in others - {account.key}:
            if key.pool not in pools:
                continue
            try:
                self._put(accounts, key, other := await self._store.read(key))
                self._trail.take_in(other)
            except UnknownAccountError:
                self._put(accounts, key, None)
            except BrokenAccountError:
                pass  # half-way through an editor's saving, most often: what was known of it counts
        if others - {account.key}:  # one that just exchanged it has written that down by now
            await self._trail.catch_up()

    def _put(self, accounts: Holders, key: AccountKey, record: Record | None) -> set[AccountKey]:
        before = accounts.get(key)
        if before is not None:
            self._rules.replaced(before, record)
        return accounts.put(key, record)

    # --- judging ----------------------------------------------------------------------------------------------

    async def _judge(self, record: Record, pools: Mapping[str, PoolConfig], known: Record | None) -> Record:
        if not isinstance(record, Account):
            return record
        found = self._rules.judge(record, self._accounts, pools)
        if isinstance(found, Spent) and not record.disabled:
            record = await self._confirmed(record)
            found = self._rules.judge(record, self._accounts, pools)
        if isinstance(found, Spent) and self._is_successor(known, record):
            assert isinstance(known, Account)  # noqa: S101 - a successor is one
            self._learn(record, known)  # it is put back in its place, instead of being lost
            return record
        if found is None or record.disabled:
            self._held.discard(record.key)
            return record
        self._held.add(record.key)
        if isinstance(found, Spent):
            self.notes.write_soon(record.key)
        return as_held(record, found, self._clock.time())

    async def _confirmed(self, record: Account) -> Account:
        """The account as it is stored now: another process may have exchanged the token since it was read."""
        try:
            return await self._store.read(record.key)
        except StoreError:
            return record

    def _is_successor(self, known: Record | None, record: Account) -> bool:
        """Whether this process still holds what the spent token of `record` was exchanged for."""
        if not isinstance(known, Account) or known.token.refresh_token in {None, record.token.refresh_token}:
            return False
        newest = self._trail.known(fingerprint(known.token.refresh_token or ""), record.key)
        return newest is not None and newest.account == record.key and newest.exchanged_at is None


def _stands_differently(standing: Record | None, known: Record | None) -> bool:
    """Whether an account whose record is as it was is judged in another way; `known` may be newer than that record."""
    if isinstance(standing, Account) and isinstance(known, Account):
        same = standing.token.refresh_token == known.token.refresh_token
        ours = standing.disabled or (known.disabled_reason or "").startswith(RESTORED)
        return same and ours and standing.disabled != known.disabled
    return standing is not None and standing != known
