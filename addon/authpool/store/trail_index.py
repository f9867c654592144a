"""What the audit trail says of credentials: which refresh tokens were exchanged for newer ones, and by which account.

It is read once, and from then on only what was appended since: so a look at each refresh costs little.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Protocol

from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.store import Store
from authpool.store.audit import Entry

REMEMBERED = 100_000
"""So many credentials are known at most; those heard of longest ago are forgotten. The trail itself holds fewer."""
MOVED_TO = "to "
"""So begins the reason of the entry `moved`; the account's new address follows."""
CAME_FROM = "moved from "
"""So begins the reason of the entry `added` of an account that was moved; its old address follows."""
LATEST = 2000
"""So many entries can be told without asking the store."""
AT_ONCE = 500
"""So many entries are taken in before others have a turn."""

_NEW_CREDENTIAL = frozenset({"added", "re-added", "refreshed", "enabled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one credential. `exchanged_at` (Unix seconds): a newer one was given for it, to `account`.

    The account had that `generation` then. `parent` is the fingerprint of what the account itself got this one for.
    """

    account: AccountKey
    exchanged_at: int | None = None
    generation: int = 0
    parent: str | None = field(default=None, compare=False)


class CredentialTrail(Protocol):
    """What is known of the credentials of a home, by fingerprint."""

    async def catch_up(self) -> None:
        """Take in what was written since the last time. Raises nothing but StoreUnavailableError."""

    def known(self, mark: str, account: AccountKey | None = None) -> Known | None:
        """The account that had this credential last, and whether it was exchanged since; None: nobody wrote that down.

        What an account spent stays spent when it is removed. `account` is who has the credential now: where two of
        one fingerprint were given, its own is meant.
        """

    def take_in(self, account: Account) -> bool:
        """Learn from a record what its account exchanged last; whether the trail should say so, and does not."""

    def marks_of(self, key: AccountKey) -> Collection[str]:
        """Every credential that this account had last, spent ones as well."""


class TrailIndex:
    """`CredentialTrail` of a store.

    It only learns: what it knows stays known when the trail is taken away, or an older one is put in its place.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Known] = {}
        self._alike: dict[str, dict[AccountKey, Known]] = {}
        """What is known of fingerprints that several credentials have: of thousands of accounts, some will."""
        self._marks: dict[AccountKey, set[str]] = {}
        self._newest: dict[AccountKey, Entry] = {}
        self._position: object = None
        self._alone = asyncio.Lock()
        self._latest: deque[Entry] = deque(maxlen=LATEST)
        self._noted: Counter[Entry] = Counter()
        """What this process appended, and was not met in the store yet."""
        self._untold: dict[str, Known] = {}
        """What only a record says: whoever exchanged it was killed before it wrote that down, or the line is gone."""
        self._reaches_back_to: float = math.inf
        """Of what was exchanged earlier (Unix seconds) the trail need not tell any more."""
        self._met: dict[int, None] = {}
        """Hashes of the entries that were met in the store."""

    def known(self, mark: str, account: AccountKey | None = None) -> Known | None:
        known, untold = self._known_of(mark, account), self._untold.get(mark)
        return known if untold is None or not _may_have_exchanged(known, untold.account) else untold

    def _known_of(self, mark: str, account: AccountKey | None) -> Known | None:
        own = self._alike.get(mark, {}).get(account) if account is not None else None
        return own or self._known.get(mark)

    def take_in(self, account: Account) -> bool:
        mark, at = account.replaced, account.replaced_at
        if mark is None or at is None:
            return False
        if not _may_have_exchanged(self._known_of(mark, account.key), account.key):
            self._untold.pop(mark, None)
            return False
        if mark == fingerprint(account.token.refresh_token or ""):  # somebody put it back by hand
            return False
        self._untold[mark] = Known(account=account.key, exchanged_at=at, generation=account.generation)
        return at >= self._reaches_back_to

    def marks_of(self, key: AccountKey) -> Collection[str]:
        untold = {mark for mark, known in self._untold.items() if known.account == key}
        return self._marks.get(key, set()) | untold

    def latest(self) -> list[Entry]:
        """The newest entries that this process knows of, oldest first."""
        return list(self._latest)

    def note(self, entry: Entry) -> None:
        """This process appends it: tell of it at once, and know it even where it could not be written."""
        self._latest.append(entry)
        self._noted[entry] += 1
        self._take_in(entry, doubtful=False)

    async def catch_up(self) -> None:
        async with self._alone:
            learned = bool(self._known)
            entries, position = await self._store.entries_since(self._position)
            if self._position is None:
                self._reaches_back_to = min((entry.time for entry in entries), default=math.inf)
            for number, entry in enumerate(entries, 1):
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
                if self._meet(entry) and entry.found:
                    continue  # an older trail was put back: this is what is known already
                self._take_in(entry, doubtful=learned and entry.found)
                if self._noted[entry]:
                    self._noted[entry] -= 1
                else:
                    self._latest.append(entry)
            self._position = position
            self._noted = +self._noted

    def _meet(self, entry: Entry) -> bool:
        """Whether that entry was met in the store before."""
        mark = hash(entry)
        met = mark in self._met
        self._met.pop(mark, None)
        self._met[mark] = None
        if len(self._met) > REMEMBERED:
            del self._met[next(iter(self._met))]
        return met

    def _take_in(self, entry: Entry, *, doubtful: bool) -> None:
        """Learn from an entry; a `doubtful` one may be of an older trail that was put back."""
        try:
            key = AccountKey.parse(entry.account)
            if entry.event == "moved":
                self._move(key, AccountKey.parse(entry.reason.removeprefix(MOVED_TO)))
        except ValueError:
            return
        if entry.event == "removed":
            self._newest.pop(key, None)  # who comes under its name next is another one
        elif entry.event in _NEW_CREDENTIAL and entry.fingerprint is not None:
            spent = entry.replaced or self._implied(key, entry)
            if spent is not None and spent != entry.fingerprint:
                self._learn(spent, Known(account=key, exchanged_at=entry.time, generation=entry.generation))
            if self._makes_good(key, entry, doubtful=doubtful):
                self._learn(entry.fingerprint, Known(account=key, parent=spent))
            if not entry.late:
                self._newest[key] = entry

    def _makes_good(self, key: AccountKey, entry: Entry, *, doubtful: bool) -> bool:
        """Whether the credential of an entry is the account's newest one from then on, whatever was known of it."""
        before = self._known_of(entry.fingerprint or "", key)
        if entry.late and before is not None and before.exchanged_at is not None:
            return before.account == key and entry.generation > before.generation  # it tells of an earlier time
        if before is not None and entry.reason.startswith(CAME_FROM):
            return False  # nothing came of that but another address
        # An older trail that was put back must not make a spent token look good again. What is appended comes later,
        # whatever the wall clock says: somebody may have put that back.
        spent_at = None if before is None else before.exchanged_at
        return spent_at is None or not doubtful or entry.time >= spent_at

    def _implied(self, key: AccountKey, entry: Entry) -> str | None:
        """What a refresh spent, of which an older authpool wrote only what it gave: the credential right before."""
        before = self._newest.get(key)
        if entry.event != "refreshed" or before is None or before.generation + 1 != entry.generation:
            return None
        return before.fingerprint

    def _learn(self, mark: str, known: Known) -> None:
        self._untold.pop(mark, None)
        before = self._known.pop(mark, None)
        alike = self._alike.get(mark)
        if before is not None and _another_credential(before, known):
            alike = self._alike.setdefault(mark, {before.account: before})
        if alike is not None:
            mine = alike.get(known.account)
            alike[known.account] = known if known.parent or mine is None else replace(known, parent=mine.parent)
        elif before is not None:
            self._marks.get(before.account, set()).discard(mark)
            if before.account == known.account and known.parent is None:
                known = replace(known, parent=before.parent)
        self._known[mark] = known
        self._marks.setdefault(known.account, set()).add(mark)
        if len(self._known) > REMEMBERED:
            self._forget(next(iter(self._known)))

    def _forget(self, mark: str) -> None:
        known = self._known.pop(mark)
        for one in (known, *self._alike.pop(mark, {}).values()):
            self._marks.get(one.account, set()).discard(mark)
            self._reaches_back_to = max(self._reaches_back_to, (one.exchanged_at or 0) + 1)

    def _move(self, key: AccountKey, to: AccountKey) -> None:
        for mark in self._marks.get(key, set()).copy():
            known = self._known_of(mark, key)
            if known is not None:
                self._alike.get(mark, {}).pop(key, None)
                self._learn(mark, replace(known, account=to))
        self._marks.pop(key, None)
        self._newest.pop(key, None)


def _may_have_exchanged(known: Known | None, account: AccountKey) -> bool:
    """Whether an account may have exchanged a credential, as far as that is what is known of it."""
    return known is None or (known.account == account and known.exchanged_at is None)


def _another_credential(before: Known, known: Known) -> bool:
    """Whether two accounts were given different credentials of one fingerprint: each for another one of its own.

    Who presented a copy was given the same for the same, and who holds one was given nothing.
    """
    return (
        before.account != known.account and None not in {before.parent, known.parent} and before.parent != known.parent
    )
