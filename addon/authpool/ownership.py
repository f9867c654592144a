"""Which accounts may present the refresh token they hold: one account for each token, and none that was exchanged.

A provider that rotates ends the whole grant when a spent token is presented. So a file that was copied into another
pool, or that a restored backup put back, is held back before it is presented by anybody.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authpool.account import Account, AccountKey, BrokenAccount, fingerprint
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.credential_holders import AT_ONCE, Holders, first_of
from authpool.errors import AuthpoolError, BrokenAccountError, StoreError, UnknownAccountError
from authpool.events import AccountEvent, Notify
from authpool.refresh.outcome import Dead, Outcome, Unavailable
from authpool.report import timestamp
from authpool.store import Record, Store
from authpool.trail_index import CredentialTrail, Known

logger = logging.getLogger(__name__)

RESTORED = "restored_copy:"
"""So begins the reason of an account whose record holds a refresh token that it has exchanged since."""
MOVED_FROM = "moved_from"
"""Key in an account's file while it is being moved: where it comes from, and is still the account's own."""
AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """Another account is the first one that holds this credential."""

    first: Account
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    """What the record holds was exchanged `at` a time (Unix seconds), by the account itself or one that is gone."""

    at: int
    by: AccountKey


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
        self._notify = notify
        self._unwritten = unwritten
        self._learn = learn
        self._accounts = Holders()
        self._following = False
        self._meanwhile: dict[AccountKey, Record | None] | None = None
        self._held: set[AccountKey] = set()
        """Who is held back, as far as this process knows: looked at anew whenever the store is."""
        self._unwritten_yet: dict[AccountKey, None] = {}
        self._told: set[AccountKey] = set()
        self._writing: asyncio.Task[None] | None = None

    # --- loading and following --------------------------------------------------------------------------------

    async def load(
        self,
        records: Mapping[AccountKey, Record],
        pools: Mapping[str, PoolConfig],
        *,
        known: Mapping[AccountKey, Record],
    ) -> dict[AccountKey, Record]:
        """Judge all records of a gateway's `pools`, as they were loaded; `known` are those it has so far."""
        await asyncio.to_thread(self._trail.catch_up)
        self._meanwhile = {}
        accounts = await Holders.of(records.values())
        for key, record in self._meanwhile.items():
            accounts.put(key, record)
        self._accounts, self._meanwhile, self._following = accounts, None, True
        judged: dict[AccountKey, Record] = {}
        for number, (key, record) in enumerate(records.items()):
            judged[key] = await self._judge(record, pools, known.get(key))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return judged

    async def follow(
        self, changes: Mapping[AccountKey, Record | None], known: Callable[[AccountKey], Record | None]
    ) -> dict[AccountKey, Record | None]:
        """Judge what changed in the store; the answer tells as well which others stand differently for it."""
        self._trail.catch_up()
        affected = self._held.copy()
        for key, record in changes.items():
            affected |= self._accounts.put(key, record)
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
        await asyncio.to_thread(self._trail.catch_up)
        accounts, pools = await Holders.of(records.values()), self._pools()
        shown: dict[AccountKey, Record] = {}
        for key, record in records.items():
            found = self._found(record, accounts, pools) if isinstance(record, Account) else None
            shown[key] = record if found is None or not isinstance(record, Account) else self._as_held(record, found)
        return shown

    async def aclose(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    # --- before a token is presented --------------------------------------------------------------------------

    async def check(self, account: Account) -> Outcome | None:
        """Whether an account, read under its lock, may present what it holds: None, or why not. Raises StoreError."""
        found = await self._found_now(account)
        if found is None:
            return None
        if isinstance(found, _Spent):
            return Dead(account=await self._write(account, found) or account)
        self._held.add(account.key)
        return Unavailable(detail=found.reason, cause="account", retry_after_seconds=AGAIN_SECONDS)

    async def known(self, mark: str) -> Known | None:
        """What the trail knows of a credential, by its fingerprint."""
        await asyncio.to_thread(self._trail.catch_up)
        return self._trail.known(mark)

    def accounts(self) -> list[Account]:
        """Every account of a gateway's pools that can be read, as it is stored, copies as well."""
        return self._accounts.all()

    async def why_not(self, account: Account) -> str | None:
        """For people: why an account is held back as a copy of another; None when it is not. Raises StoreError."""
        found = await self._found_now(account)
        return found.reason if isinstance(found, _Copy) else None

    async def _found_now(self, account: Account) -> _Copy | _Spent | None:
        pools = self._pools()
        if not _concerned(account, pools) and MOVED_FROM not in account.extra:
            return None
        await asyncio.to_thread(self._trail.catch_up)
        accounts = self._accounts if self._following else await self._look(pools)
        accounts.put(account.key, account)
        await self._read_again(account, accounts, pools)
        return self._found(account, accounts, pools)

    async def _look(self, pools: Mapping[str, PoolConfig]) -> Holders:
        """Everything there is, for a process that follows nothing."""
        return await Holders.of((await self._store.load(pools.keys())).values())

    async def _read_again(self, account: Account, accounts: Holders, pools: Mapping[str, PoolConfig]) -> None:
        """Read the others that may hold the same credential as they are now: what is known of them may be old."""
        known = self._trail.known(fingerprint(account.token.refresh_token or ""))
        others = set(accounts.holders(account)) | ({known.account} if known is not None else set())
        for key in others - {account.key}:
            if key.pool not in pools:
                continue
            try:
                accounts.put(key, await self._store.read(key))
            except UnknownAccountError:
                accounts.put(key, None)
            except BrokenAccountError:
                pass  # half-way through an editor's saving, most often: what was known of it counts
        if others - {account.key}:  # one that just exchanged it has written that down by now
            await asyncio.to_thread(self._trail.catch_up)

    # --- judging ----------------------------------------------------------------------------------------------

    async def _judge(self, record: Record, pools: Mapping[str, PoolConfig], known: Record | None) -> Record:
        if not isinstance(record, Account):
            return record
        found = self._found(record, self._accounts, pools)
        if isinstance(found, _Spent) and not record.disabled:
            record = await self._confirmed(record)
            found = self._found(record, self._accounts, pools)
        if isinstance(found, _Spent) and self._is_successor(known, record):
            assert isinstance(known, Account)  # noqa: S101 - a successor is one
            self._learn(record, known)  # it is put back in its place, instead of being lost
            return record
        if found is None or record.disabled:
            self._held.discard(record.key)
            return record
        self._held.add(record.key)
        if isinstance(found, _Spent):
            self._write_soon(record.key)
        return self._as_held(record, found)

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
        newest = self._trail.known(fingerprint(known.token.refresh_token or ""))
        return newest is not None and newest.account == record.key and newest.exchanged_at is None

    def _found(self, account: Account, accounts: Holders, pools: Mapping[str, PoolConfig]) -> _Copy | _Spent | None:
        pool = pools.get(account.pool)
        moving = self._moving(account, accounts)
        if moving is not None or pool is None:
            return moving
        refresh_token = account.token.refresh_token
        if pool.type != "refresh_token" or refresh_token is None:
            return None
        known = self._trail.known(fingerprint(refresh_token))
        if known is not None and known.exchanged_at is not None:
            if known.account == account.key:
                held = self._unwritten(account.key) is not None  # then memory has the newest, and writes it yet
                return None if held else _Spent(at=known.exchanged_at, by=known.account)
            holder = accounts.get(known.account)
            if holder is not None and holder.pool in pools:
                return _Copy(first=holder, reason=_exchanged_by(holder, known.exchanged_at))
            return _Spent(at=known.exchanged_at, by=known.account)
        rivals = [one for one in accounts.of_token(refresh_token) if _concerned(one, pools)]
        first = first_of([account, *rivals], None if known is None else known.account)
        return None if first.key == account.key else _Copy(first=first, reason=_same_as(first, account))

    def _moving(self, account: Account, accounts: Holders) -> _Copy | None:
        """Whether a move of the account was cut off before it left its old address."""
        try:
            source = accounts.get(AccountKey.parse(str(account.extra.get(MOVED_FROM, ""))))
        except ValueError:
            return None
        if source is None or source.key == account.key or source.created_at != account.created_at:
            return None  # it has left, or who has that address now is another one
        return _Copy(
            first=source,
            reason=f"it is being moved from {source.address}, and that was cut off; "
            f"go on with: authpool move {source.address} {account.pool}",
        )

    def _as_held(self, account: Account, found: _Copy | _Spent) -> Record:
        if account.disabled:
            return account
        if isinstance(found, _Copy):
            return BrokenAccount(pool=account.pool, name=account.name, reason=found.reason)
        return account.with_disabled(_restored_reason(account, found), self._clock.time())

    # --- writing ----------------------------------------------------------------------------------------------

    def _write_soon(self, key: AccountKey) -> None:
        self._unwritten_yet.setdefault(key)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="hold back restored accounts")

    async def _write_all(self) -> None:
        """One after the other: a restored backup may be of thousands of accounts."""
        while self._unwritten_yet:
            key = next(iter(self._unwritten_yet))
            try:
                async with self._store.lock(key):  # whoever took it back by force meanwhile has said so by now
                    account = await self._store.read(key)
                    found = await self._found_now(account)
                    if isinstance(found, _Spent):
                        await self._write(account, found)
                self._told.discard(key)
            except (UnknownAccountError, BrokenAccountError):
                pass  # whoever follows the store says so
            except AuthpoolError as error:
                if key not in self._told:  # once, not every time
                    self._told.add(key)
                    logger.error("%s is held back, and that can't be written: %s", key, error)
            del self._unwritten_yet[key]

    async def _write(self, account: Account, found: _Spent) -> Account | None:
        """Write down that the account is held back, while it holds that token. Under its lock."""
        now = self._clock.time()
        before: Account | None = None

        def hold_back(current: Account | None) -> Account | None:
            nonlocal before
            before = current
            same = current is not None and current.token.refresh_token == account.token.refresh_token
            if current is None or not same or current.disabled:
                return current
            return current.with_disabled(_restored_reason(current, found), now)

        stored = await self._store.update(account.key, hold_back)
        if stored is not None and stored is not before:
            self._notify(AccountEvent(kind="disabled", account=stored, reason=stored.disabled_reason or ""))
        return stored


def _restored_reason(account: Account, found: _Spent) -> str:
    """Why an account is held back that holds what was exchanged, and the ways out."""
    whose = "" if found.by == account.key else f", of {found.by}"
    return (
        f"{RESTORED} since {timestamp(found.at)} a newer refresh token has taken the place of the one in this "
        f"record, as the audit trail says{whose}: an old copy was put back, or the newer one was never written. To "
        f"present a spent token may end the grant. Ways out: `authpool login {account.pool} {account.name}`, `authpool add "
        f"{account.pool} SOURCE`, or `authpool enable --force {account.address}` if you know that it still works"
    )


def _exchanged_by(holder: Account, at: int) -> str:
    return (
        f"it is a copy: {holder.address} has exchanged this refresh token for a newer one, {timestamp(at)}; "
        "to present it again may end that grant. Sign in again for a credential of its own, or remove it"
    )


def _same_as(first: Account, account: Account) -> str:
    return (
        f"it is a copy: {first.address} holds the same credential, and a refresh by one of them spends the other's. "
        f"Remove one of them, or sign in again for a credential of its own: authpool add {account.pool} SOURCE"
    )


def _stands_differently(standing: Record | None, known: Record | None) -> bool:
    """Whether an account whose record is as it was is judged in another way; `known` may be newer than that record."""
    if isinstance(standing, Account) and isinstance(known, Account):
        same = standing.token.refresh_token == known.token.refresh_token
        ours = standing.disabled or (known.disabled_reason or "").startswith(RESTORED)
        return same and ours and standing.disabled != known.disabled
    return standing is not None and standing != known


def _concerned(account: Account, pools: Mapping[str, PoolConfig]) -> bool:
    pool = pools.get(account.pool)
    return pool is not None and pool.type == "refresh_token"
