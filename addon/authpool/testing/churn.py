"""What a pool does to its rotation: accounts come and go, requests begin, go on and end, and the pool is built anew."""

from collections import Counter
from collections.abc import Callable, Collection
from enum import StrEnum

from authpool.accounts.account import AccountKey
from authpool.rotation.quota import Quota
from authpool.rotation.rotation import Rotation, RotationRequest


class Step(StrEnum):
    """What may happen next."""

    COME_OR_GO = "come or go"
    BEGIN = "begin"
    END = "end"
    OBSERVE = "observe"
    RELOAD = "reload"


class Churn:
    """A pool's part in a rotation's life, which checks every choice.

    Requests stay in flight while their account leaves, comes back, or moves to the rotation of a reloaded pool.
    """

    def __init__(self, make: Callable[[], Rotation], request: Callable[[int], RotationRequest], accounts: int) -> None:
        self.rotation = make()
        self.members: set[AccountKey] = set()
        self._make = make
        self._request = request
        self._accounts = accounts
        self._in_flight: list[AccountKey] = []
        self._told: Counter[AccountKey] = Counter()
        """Of how many requests in flight the present rotation knows."""

    def play(self, step: Step, number: int) -> None:
        """Take one step; `number` (not negative) tells with which account, or with how many."""
        match step:
            case Step.COME_OR_GO:
                self._come_or_go(account_key(number % self._accounts))
            case Step.BEGIN:
                self._begin(number, attempts=1 + number % 3)
            case Step.END if self._in_flight:
                self._end(self._in_flight.pop(number % len(self._in_flight)))
            case Step.OBSERVE:
                quota = Quota(remaining=number, limit=None if number % 3 == 0 else 10)
                self.rotation.observe(account_key(number % self._accounts), quota)
            case Step.RELOAD:
                self._reload()

    def choose(self, number: int, tried: Collection[AccountKey] = ()) -> AccountKey | None:
        """Choose for a request, and see that the choice is one that may be made."""
        key = self.rotation.choose(self._request(number), tried)
        if key is None:
            left = self.members - set(tried)
            assert not left, f"chose nobody, though {sorted(map(str, left))} can serve and were not tried"
        else:
            assert key in self.members, f"chose {key}, which can't serve"
            assert key not in tried, f"chose {key} again, which was tried already"
        return key

    def drain(self) -> None:
        """Let one request be tried on every account: it meets each of them once, and then there is none."""
        tried: list[AccountKey] = []
        for _ in range(len(self.members)):
            key = self.choose(0, tuple(tried))
            assert key is not None
            tried.append(key)
        assert self.choose(0, set(tried)) is None

    def _come_or_go(self, key: AccountKey) -> None:
        if key in self.members:
            self.members.remove(key)
            self.rotation.remove(key)
        else:
            self.members.add(key)
            self._add(key)

    def _add(self, key: AccountKey) -> None:
        self.rotation.add(key)
        while self._told[key] < self._in_flight.count(key):
            self._start(key)

    def _begin(self, number: int, attempts: int) -> None:
        tried: list[AccountKey] = []
        while (key := self.choose(number, tuple(tried))) is not None:
            self._start(key)
            tried.append(key)
            if len(tried) == attempts:
                self._in_flight.append(key)
                return
            self._end(key)

    def _start(self, key: AccountKey) -> None:
        self._told[key] += 1
        self.rotation.started(key)

    def _end(self, key: AccountKey) -> None:
        if self._told[key]:
            self._told[key] -= 1
            self.rotation.finished(key)

    def _reload(self) -> None:
        self.rotation = self._make()
        self._told.clear()
        for key in sorted(self.members):
            self._add(key)


def account_key(number: int) -> AccountKey:
    """Name an account of the kit by its number."""
    return AccountKey("conformance", f"account-{number}")
