"""Accounts in the order of a rank that changes, where asking for the first looks at none of the others."""

import heapq
import itertools
from collections.abc import Collection

from authpool.accounts.account import AccountKey

_SPARE = 64
"""So many entries that count no more are kept before they are thrown out, and besides as many as those that count."""


class Ranking[Rank]:
    """Accounts by rank, the smallest first; of those that rank alike, the one that was placed first.

    A heap whose entries are not taken out when they stop counting, but passed over when they come to its top. Every
    method takes O(log n) in the long run; one call in n or so throws out what has gathered, which takes O(n).
    """

    def __init__(self) -> None:
        self._entries: dict[AccountKey, tuple[Rank, int, AccountKey]] = {}
        self._heap: list[tuple[Rank, int, AccountKey]] = []
        self._turns = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: AccountKey) -> bool:
        return key in self._entries

    def __getitem__(self, key: AccountKey) -> Rank:
        return self._entries[key][0]

    def get(self, key: AccountKey) -> Rank | None:
        """Answer an account's rank; None when it is not there."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def place(self, key: AccountKey, rank: Rank) -> None:
        """Take in an account, or give it another rank; either way it comes after all of that rank."""
        former = self._entries.get(key)
        entry = self._entries[key] = (rank, next(self._turns), key)
        if former is not None and self._heap[0] is former:
            heapq.heapreplace(self._heap, entry)
            return
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + _SPARE:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def discard(self, key: AccountKey) -> None:
        """Leave out an account, if it is there."""
        self._entries.pop(key, None)

    def first(self, tried: Collection[AccountKey] = ()) -> AccountKey | None:
        """Find the account of the smallest rank that is not among `tried`; it stays where it is. None: no such one."""
        heap, entries = self._heap, self._entries
        passed = []
        found = None
        while heap:
            entry = heap[0]
            key = entry[2]
            counts = entries.get(key) is entry
            if counts and key not in tried:
                found = key
                break
            heapq.heappop(heap)
            if counts:
                passed.append(entry)
        for entry in passed:
            heapq.heappush(heap, entry)
        return found
