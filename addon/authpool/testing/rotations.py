"""What every rotation must pass. Subclass `RotationConformance` in a test module, and pytest does the rest:

class TestMine(RotationConformance):
    fair_within = 1

    def make(self) -> Rotation:
        return Mine()
"""  # noqa: D415 - an example ends it

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authpool.accounts.account import AccountKey
from authpool.rotation.quota import Quota
from authpool.rotation.rotation import Rotation, RotationRequest
from authpool.testing.churn import Churn, Step, account_key

type Steps = list[tuple[Step, int]]

_ACCOUNTS = 6
_FEW, _MANY = 10, 1_000
_REQUESTS = 20
_GROWTH = 8
"""So many times as much may a choice among 100 times as many accounts cost; a scan costs 100 times as much."""

_conformance = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])


def _steps(*kinds: Step) -> st.SearchStrategy[Steps]:
    step = st.tuples(st.sampled_from(kinds), st.integers(0, 2**_ACCOUNTS - 1))
    return st.lists(step, max_size=12) | st.lists(step, min_size=15, max_size=40)


class RotationConformance:
    """Tests for one rotation: `make` answers a new one, with a clock and a randomness of the test's own."""

    fair_within: ClassVar[int | None] = None
    """By how many requests the shares of accounts that can serve all the while may differ; None: it claims nothing."""

    heeds_load: ClassVar[bool] = False
    """Whether an account without requests in flight comes before one that has some."""

    def make(self) -> Rotation:
        raise NotImplementedError("make() answers the rotation under test, a new one each time")

    def request(self, number: int) -> RotationRequest:
        """Make the request of that number; for a rotation that looks at other things than these."""
        return RotationRequest(
            method="POST",
            host="api.example.com",
            path=f"/{number}",
            client=f"192.0.2.{number % 256}",
            header=lambda name: f"{name} {number}",
            body=lambda: b'{"user": {"id": "%d"}}' % number,
        )

    def test_without_accounts_there_is_no_choice(self) -> None:
        """A new rotation answers None."""
        assert self.make().choose(self.request(0), ()) is None

    @_conformance
    @given(steps=_steps(Step.COME_OR_GO, Step.BEGIN, Step.END, Step.OBSERVE))
    def test_it_chooses_a_member_that_was_not_tried(self, steps: Steps) -> None:
        """Whoever comes and goes, with requests in flight or not; None only when every member was tried."""
        churn = Churn(self.make, self.request, _ACCOUNTS)
        for step, number in steps:
            churn.play(step, number)
            churn.choose(number, {account_key(bit) for bit in range(_ACCOUNTS) if number >> bit & 1})
        churn.drain()

    @_conformance
    @given(steps=_steps(Step.COME_OR_GO, Step.BEGIN, Step.END, Step.RELOAD))
    def test_requests_in_flight_survive_a_reload(self, steps: Steps) -> None:
        """A new rotation takes over, is told of what is in flight, and hears of its end."""
        churn = Churn(self.make, self.request, _ACCOUNTS)
        for step, number in steps:
            churn.play(step, number)
        churn.drain()

    def test_a_reload_keeps_the_load_in_mind(self) -> None:
        """What was in flight before still counts after, until it is over."""
        if not self.heeds_load:
            pytest.skip("this rotation does not look at requests in flight")
        busy, idle = account_key(0), account_key(1)
        rotation = self.make()
        rotation.add(busy)
        for _ in range(3):
            rotation.started(busy)
        rotation.add(idle)
        for _ in range(2):
            self._expect(rotation, idle, "is idler; what was in flight before the reload was forgotten")
            rotation.started(idle)
        for _ in range(3):
            rotation.finished(busy)
        self._expect(rotation, busy, "is idle since its requests ended")

    def test_load_is_known_of_an_account_that_was_away(self) -> None:
        """Requests go on while their account is out: it comes back with those that are still in flight, no others."""
        if not self.heeds_load:
            pytest.skip("this rotation does not look at requests in flight")
        away, other = account_key(0), account_key(1)
        rotation = self.make()
        rotation.add(away)
        rotation.add(other)
        for _ in range(3):
            rotation.started(away)
        rotation.started(other)
        rotation.remove(away)
        rotation.finished(away)
        rotation.add(away)
        self._expect(rotation, other, "is idler; what was in flight was forgotten when the account went")
        rotation.remove(away)
        for _ in range(2):
            rotation.finished(away)
        rotation.add(away)
        self._expect(rotation, away, "is idle since its requests ended while it was away")

    @_conformance
    @given(steps=_steps(Step.COME_OR_GO, Step.BEGIN))
    def test_it_is_fair_to_those_that_stay(self, steps: Steps) -> None:
        """Three accounts stay while others come and go; they serve as often as each other, as far as it is claimed."""
        if self.fair_within is None:
            pytest.skip("this rotation claims no fairness")
        churn = Churn(self.make, self.request, _ACCOUNTS)
        for number in range(3):
            churn.play(Step.COME_OR_GO, number)
        served = Counter(dict.fromkeys(churn.members, 0))
        for step, number in steps:
            if step is Step.COME_OR_GO:
                churn.play(step, 3 + number % (_ACCOUNTS - 3))
                continue
            for _ in range(1 + number % 20):
                key = churn.choose(number)
                assert key is not None
                served[key] += 1
                churn.rotation.started(key)
                churn.rotation.finished(key)
            stayed = [served[account_key(number)] for number in range(3)]
            assert max(stayed) - min(stayed) <= self.fair_within, f"served {stayed} in all"

    def test_a_choice_costs_no_more_among_many_accounts(self) -> None:
        """A request among 1,000 accounts takes hardly more operations than among 10: no account is looked at in vain.

        What C code does without Python's knowing, such as copying a list, is not counted: time it as well.
        """
        few, many = self._operations(_FEW), self._operations(_MANY)
        assert many <= _GROWTH * few, f"{few} operations among {_FEW} accounts, {many} among {_MANY}"

    def _expect(self, rotation: Rotation, key: AccountKey, why: str) -> None:
        chosen = rotation.choose(self.request(0), ())
        assert chosen == key, f"chose {chosen}, but {key} {why}"

    def _operations(self, accounts: int) -> int:
        rotation = self.make()
        for number in range(accounts):
            rotation.add(_CountedKey(*account_key(number)))

        def serve() -> None:
            for number in range(_REQUESTS):
                tried: list[AccountKey] = []
                for _ in range(3):
                    key = rotation.choose(self.request(number), tried)
                    assert key is not None
                    rotation.started(key)
                    rotation.observe(key, Quota(remaining=1_000 - number, limit=1_000))
                    rotation.finished(key)
                    tried.append(key)

        _count_operations(serve)  # Python 3.12 counts code only from its second run on
        return _count_operations(serve)


class _CountedKey(AccountKey):
    """A key whose every use is Python code, and so is counted also where C code looks at it."""

    __slots__ = ()

    def __hash__(self) -> int:
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    def __lt__(self, other: Any) -> bool:
        return super().__lt__(other)


def _count_operations(work: Callable[[], None]) -> int:
    """Count the bytecode instructions of some work."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
