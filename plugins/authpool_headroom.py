"""headroom: the account with the largest share of its quota left.

For upstreams that tell what is left (`RateLimit`, `X-RateLimit-*`): accounts run dry together rather than one by one,
and one that others use as well is spared.

    rotation = { name = "headroom", forget_seconds = 60 }

Options: `forget_seconds`, how long a quota that does not say when it starts anew is believed; 1 to 86,400.
What is left is what the upstream said last, less the requests that are in flight or were started since, whichever are
more. An account of which nothing is known counts as full, as does one whose quota has started anew; so that these are
spread, too, each request in flight is taken for one of 100. Where only what is left is told, the most that ever was
stands for the whole.
Bound: no account that can serve has a larger share left than the one that is chosen, but for one request that was given
to it and never sent; among those with as much, in turn.
Cost: O(log n), a heap.
"""

from collections import defaultdict
from collections.abc import Collection
from math import inf

from authpool.plugins.api import (
    AccountKey,
    Clock,
    PoolConfig,
    Quota,
    Ranking,
    Rotation,
    RotationFactory,
    RotationRequest,
    SystemClock,
    hookimpl,
    rotation_options,
)

_UNKNOWN_LIMIT = 100
_FORGET_SECONDS = 60


class _Account:
    """What is known of an account, member or not."""

    __slots__ = ("anew_at", "in_flight", "most_remaining", "remaining", "started", "whole")

    def __init__(self) -> None:
        self.anew_at = inf
        self.in_flight = 0
        self.started = 0
        """Since the upstream told what is left."""
        self.remaining: int | None = None
        self.whole = _UNKNOWN_LIMIT
        self.most_remaining = 0

    def used(self, coming: int = 0) -> float:
        """The share of the quota that is not left, with so many more requests; it may be more than 1."""
        if self.remaining is None:
            return (self.in_flight + coming) / _UNKNOWN_LIMIT
        left = self.remaining - coming
        if self.started > self.in_flight:
            left -= self.started
        else:
            left -= self.in_flight
        return 1.0 - left / self.whole if left < self.whole else 0.0


class Headroom(Rotation):
    """An account's rank is the share that it has used, or less: a rank that grew is mended when it is looked at.

    Who is chosen is ranked as if its request had begun already, for it is about to.
    """

    def __init__(self, clock: Clock, forget_seconds: int = _FORGET_SECONDS) -> None:
        self._clock = clock
        self._forget_seconds = forget_seconds
        self._accounts: defaultdict[AccountKey, _Account] = defaultdict(_Account)
        self._members: Ranking[float] = Ranking()
        self._anew: Ranking[float] = Ranking()
        """By the time at which their quota starts anew, or an earlier one, mended likewise."""
        self._next_anew_at = inf

    def add(self, key: AccountKey) -> None:
        self._members.place(key, self._accounts[key].used())

    def remove(self, key: AccountKey) -> None:
        self._members.discard(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        if self._clock.time() >= self._next_anew_at:
            self._start_anew()
        while (key := self._members.first(tried)) is not None:
            account = self._accounts[key]
            used = account.used()
            if self._members[key] >= used:
                self._members.place(key, account.used(coming=1))
                return key
            self._members.place(key, used)
        return None

    def started(self, key: AccountKey) -> None:
        account = self._accounts[key]
        account.in_flight += 1
        account.started += 1

    def finished(self, key: AccountKey) -> None:
        account = self._accounts[key]
        if account.in_flight:
            account.in_flight -= 1
        self._has_more(key, account)

    def observe(self, key: AccountKey, quota: Quota) -> None:
        account = self._accounts[key]
        account.started = 0
        account.remaining = quota.remaining
        if quota.limit is None:
            account.most_remaining = max(account.most_remaining, quota.remaining)
            account.whole = account.most_remaining or 1
        else:
            account.whole = quota.limit or 1
        anew_at = self._clock.time() + self._forget_seconds if quota.resets_at is None else quota.resets_at
        if anew_at < account.anew_at:
            self._anew.place(key, anew_at)
            self._next_anew_at = min(self._next_anew_at, anew_at)
        account.anew_at = anew_at
        self._has_more(key, account)

    def _has_more(self, key: AccountKey, account: _Account) -> None:
        """See to it that the rank is not above what the account has used, now that this may be less."""
        rank = self._members.get(key)
        if rank is not None and (used := account.used()) < rank:
            self._members.place(key, used)

    def _start_anew(self) -> None:
        now = self._clock.time()
        while (key := self._anew.first()) is not None and self._anew[key] <= now:
            account = self._accounts[key]
            if account.anew_at > now:
                self._anew.place(key, account.anew_at)
                continue
            self._anew.discard(key)
            account.anew_at = inf
            account.remaining = None
            self._has_more(key, account)
        self._next_anew_at = inf if key is None else self._anew[key]


def _make(pool: PoolConfig) -> Rotation:
    options = rotation_options(pool, "forget_seconds")
    forget_seconds = options.take_whole("forget_seconds", _FORGET_SECONDS, 1, 86_400)
    return Headroom(SystemClock(), forget_seconds)


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "headroom" else None
