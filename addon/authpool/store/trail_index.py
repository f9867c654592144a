"""What the audit trail says of credentials: which refresh tokens were exchanged for newer ones, and by which account.

It is read once, and from then on only what was appended since: so a look at each refresh costs little.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

from authpool.accounts.account import AccountKey
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
    """What is known of one credential. `exchanged_at` (Unix seconds): a newer one was given for it, to `account`."""

    account: AccountKey
    exchanged_at: int | None = None


class CredentialTrail(Protocol):
    """What is known of the credentials of a home, by fingerprint."""

    async def catch_up(self) -> None:
        """Take in what was written since the last time. Raises nothing but StoreUnavailableError."""

    def known(self, mark: str) -> Known | None:
        """The account that had this credential last, and whether it was exchanged since; None: nobody wrote that down.

        What an account spent stays spent when it is removed.
        """

    def marks_of(self, key: AccountKey) -> Collection[str]:
        """Every credential that this account had last, spent ones as well."""


class TrailIndex:
    """`CredentialTrail` of a store.

    It only learns: what it knows stays known when the trail is taken away, or an older one is put in its place.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Known] = {}
        self._marks: dict[AccountKey, set[str]] = {}
        self._newest: dict[AccountKey, Entry] = {}
        self._position: object = None
        self._alone = asyncio.Lock()
        self._latest: deque[Entry] = deque(maxlen=LATEST)
        self._noted: Counter[Entry] = Counter()
        """What this process appended, and was not met in the store yet."""

    def known(self, mark: str) -> Known | None:
        return self._known.get(mark)

    def marks_of(self, key: AccountKey) -> Collection[str]:
        return self._marks.get(key, set()).copy()

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
            for number, entry in enumerate(entries, 1):
                self._take_in(entry, doubtful=learned and entry.found)
                if self._noted[entry]:
                    self._noted[entry] -= 1
                else:
                    self._latest.append(entry)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
            self._position = position
            self._noted = +self._noted

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
                self._learn(spent, Known(account=key, exchanged_at=entry.time))
            if self._makes_good(entry, doubtful=doubtful):
                self._learn(entry.fingerprint, Known(account=key))
            self._newest[key] = entry

    def _makes_good(self, entry: Entry, *, doubtful: bool) -> bool:
        """Whether the credential of an entry is the account's newest one from then on, whatever was known of it."""
        before = self._known.get(entry.fingerprint or "")
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
        before = self._known.pop(mark, None)
        if before is not None:
            self._marks.get(before.account, set()).discard(mark)
        self._known[mark] = known
        self._marks.setdefault(known.account, set()).add(mark)
        if len(self._known) > REMEMBERED:
            oldest = next(iter(self._known))
            self._marks[self._known.pop(oldest).account].discard(oldest)

    def _move(self, key: AccountKey, to: AccountKey) -> None:
        for mark in self._marks.get(key, set()).copy():
            self._learn(mark, replace(self._known[mark], account=to))
        self._marks.pop(key, None)
        self._newest.pop(key, None)
