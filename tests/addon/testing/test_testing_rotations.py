"""The kit for rotations finds each fault that it is there to find."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import override

import pytest

from authpool.accounts.account import AccountKey
from authpool.rotation.rotation import Rotation, RotationRequest
from authpool.testing.rotations import RotationConformance
from authpool_least_in_flight import LeastInFlight
from authpool_round_robin import RoundRobin


class Stubborn(RoundRobin):
    """Chooses what was tried already."""

    @override
    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        return super().choose(request, ())


class Ghostly(RoundRobin):
    """Goes on choosing accounts that left."""

    @override
    def remove(self, key: AccountKey) -> None:
        pass


class Timid(RoundRobin):
    """Gives up when the next in turn was tried, though others were not."""

    @override
    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        chosen = super().choose(request, ())
        return None if chosen in tried else chosen


class Unfair(RoundRobin):
    """Whoever comes is first in turn, and the others start anew."""

    @override
    def add(self, key: AccountKey) -> None:
        self._queue = OrderedDict.fromkeys(sorted([key, *self._queue]))


class Forgetful(LeastInFlight):
    """An account that leaves takes its requests in flight with it."""

    @override
    def remove(self, key: AccountKey) -> None:
        super().remove(key)
        self._in_flight.pop(key, None)


class Strict(RoundRobin):
    """Counts on it that no request outlasts its account's membership."""

    @override
    def finished(self, key: AccountKey) -> None:
        if key not in self._queue:
            raise KeyError(key)


class Deaf(LeastInFlight):
    """Takes nothing in before its first choice, so that what a reload replays is lost."""

    @override
    def started(self, key: AccountKey) -> None:
        if len(self._queues.get(0, ())) > 1 or len(self._counts) > 1:
            super().started(key)


class Scanning(RoundRobin):
    """Looks at every account for each choice."""

    @override
    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        untried = [key for key in self._queue if key not in tried]
        return untried[0] if untried else None


class SortingInC(RoundRobin):
    """Looks at every account, where Python's own eyes do not reach."""

    @override
    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        return min(set(self._queue) - set(tried), default=None)


def kit(rotation: Callable[[], Rotation]) -> RotationConformance:
    class Kit(RotationConformance):
        fair_within = 1
        heeds_load = True

        @override
        def make(self) -> Rotation:
            return rotation()

    return Kit()


CHOICE = RotationConformance.test_it_chooses_a_member_that_was_not_tried
RELOAD = RotationConformance.test_requests_in_flight_survive_a_reload
LOAD_RELOAD = RotationConformance.test_a_reload_keeps_the_load_in_mind
LOAD_AWAY = RotationConformance.test_load_is_known_of_an_account_that_was_away
FAIRNESS = RotationConformance.test_it_is_fair_to_those_that_stay
COST = RotationConformance.test_a_choice_costs_no_more_among_many_accounts


@pytest.mark.parametrize(
    ("rotation", "test", "fault"),
    (
        (Stubborn, CHOICE, "which was tried already"),
        (Ghostly, CHOICE, "which can't serve"),
        (Timid, CHOICE, "chose nobody"),
        (Unfair, FAIRNESS, "in all"),
        (Strict, RELOAD, "account-"),
        (Deaf, LOAD_RELOAD, "before the reload"),
        (RoundRobin, LOAD_RELOAD, "before the reload"),
        (Forgetful, LOAD_AWAY, "when the account went"),
        (Scanning, COST, "among 1000"),
        (SortingInC, COST, "among 1000"),
    ),
)
def test_a_fault_is_found(
    rotation: Callable[[], Rotation], test: Callable[[RotationConformance], None], fault: str
) -> None:
    """Each kind of broken rotation fails the test that is meant for it, and is told what it did."""
    with pytest.raises((AssertionError, KeyError), match=fault):
        test(kit(rotation))


def test_a_kit_without_a_rotation_says_what_is_missing() -> None:
    """Who forgets `make` is told to write it."""
    with pytest.raises(NotImplementedError, match=r"make\(\)"):
        RotationConformance().test_without_accounts_there_is_no_choice()
