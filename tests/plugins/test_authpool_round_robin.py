"""The rotation every pool has unless it says otherwise."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from authpool.accounts.account import AccountKey
from authpool.rotation.rotation import RotationRequest
from authpool_round_robin import RoundRobin

REQUEST = RotationRequest(method="GET", host="api.example.com", path="/")


def key(number: int) -> AccountKey:
    return AccountKey("p", f"a{number}")


@given(accounts=st.integers(1, 30), requests=st.integers(0, 200))
def test_no_two_accounts_differ_by_more_than_one(accounts: int, requests: int) -> None:
    """Over any number of requests every account serves as often as every other, give or take one."""
    rotation = RoundRobin()
    for number in range(accounts):
        rotation.add(key(number))
    served = Counter({key(number): 0 for number in range(accounts)})
    served.update(rotation.choose(REQUEST, ()) for _ in range(requests))
    assert max(served.values()) - min(served.values()) <= 1


def test_what_was_tried_is_not_chosen_again() -> None:
    """A request that goes on gets another account each time, and none when all were tried."""
    rotation = RoundRobin()
    tried: set[AccountKey] = set()
    for number in range(3):
        rotation.add(key(number))
    for _ in range(3):
        chosen = rotation.choose(REQUEST, tried)
        assert chosen is not None
        assert chosen not in tried
        tried.add(chosen)
    assert rotation.choose(REQUEST, tried) is None


class Churn(RuleBasedStateMachine):
    """Accounts come and go between requests; those that stay are served evenly all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.rotation = RoundRobin()
        self.served: dict[AccountKey, int] = {}
        self.out: set[AccountKey] = set()
        self.steady = {key(number) for number in range(3)}
        for member in self.steady:
            self.rotation.add(member)
            self.served[member] = 0

    @rule(number=st.integers(10, 20))
    def come_or_go(self, number: int) -> None:
        """An account that is there leaves, one that is not comes."""
        if key(number) in self.out:
            self.rotation.remove(key(number))
            self.out.discard(key(number))
        else:
            self.rotation.add(key(number))
            self.out.add(key(number))

    @precondition(lambda self: self.steady)
    @rule(count=st.integers(1, 20))
    def request(self, count: int) -> None:
        """Some requests are served."""
        for _ in range(count):
            chosen = self.rotation.choose(REQUEST, ())
            assert chosen in self.steady | self.out
            if chosen in self.steady:
                self.served[chosen] += 1

    @invariant()
    def those_that_stay_are_served_evenly(self) -> None:
        """The bound that the rotation promises."""
        assert max(self.served.values()) - min(self.served.values()) <= 1


TestChurn = Churn.TestCase
