"""Accounts whose own state changes by itself: a failed refresh's cooldown ends, or its quota is full again."""

import heapq
from collections.abc import Iterator, Mapping

from authpool.accounts.account import Account, AccountKey
from authpool.pool.member import Member


class Turns:
    """When that is, of the `members` of one pool."""

    def __init__(self, members: Mapping[AccountKey, Member]) -> None:
        self._members = members
        self.heap: list[tuple[float, AccountKey]] = []
        """The next one first (Unix seconds); those that were put off or left are in it yet."""
        self._turned: set[AccountKey] = set()

    def note(self, at: float, key: AccountKey) -> None:
        heapq.heappush(self.heap, (at, key))

    def follow(self, member: Member, now: float) -> None:
        """There is another record of an account."""
        at = member.turns_at(now)
        if at is not None:
            self.note(at, member.key)
        elif isinstance(member.record, Account) and member.record.spared():  # over already: while nobody looked
            self._turned.add(member.key)

    def take(self, now: float) -> Iterator[Member]:
        """Those whose turn has come."""
        while self.heap and self.heap[0][0] <= now:
            _, key = heapq.heappop(self.heap)
            if key in self._members:
                yield self._members[key]
                self._turned.add(key)

    def take_spared(self, now: float) -> list[Member]:
        """Those that were spared for their quota and are so no more; each is told once."""
        members = [self._members[key] for key in self._turned if key in self._members]
        self._turned.clear()
        found = [member for member in members if isinstance(member.record, Account)]
        return [member for member in found if member.account.spared() and not member.account.paused(now)]

    def next(self, now: float) -> float | None:
        """When the next one's turn is (Unix seconds)."""
        while self.heap:
            at, key = self.heap[0]
            member = self._members.get(key)
            if member is not None and at == member.turns_at(now):
                return at
            heapq.heappop(self.heap)
        return None
