"""least_in_flight: the account with the fewest requests in flight."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.errors import ConfigurationError
from authpool_least_in_flight import LeastInFlight
from support.rotations import REQUEST, key, made, serve


def rotation(accounts: int) -> LeastInFlight:
    filled = LeastInFlight()
    for number in range(accounts):
        filled.add(key(number))
    return filled


@given(steps=st.lists(st.one_of(st.none(), st.integers(0, 50))), tried=st.sets(st.integers(0, 4), max_size=3))
def test_nobody_has_fewer_than_who_is_chosen(steps: list[int | None], tried: set[int]) -> None:
    """Whatever began and ended before, and whoever was tried already."""
    least = rotation(5)
    in_flight = Counter(dict.fromkeys(map(key, range(5)), 0))
    passed = {key(number) for number in tried}
    for step in steps:
        busy = sorted(in_flight.elements())
        if step is None:
            chosen = least.choose(REQUEST, passed)
            assert chosen is not None
            assert in_flight[chosen] == min(count for name, count in in_flight.items() if name not in passed)
            least.started(chosen)
            in_flight[chosen] += 1
        elif busy:
            ended = busy[step % len(busy)]
            least.finished(ended)
            in_flight[ended] -= 1


def test_ties_are_served_in_turn() -> None:
    """Also while nobody says that the requests began."""
    assert serve(rotation(3), 6) == ["0", "1", "2", "0", "1", "2"]
    quiet = rotation(3)
    assert [quiet.choose(REQUEST, ()) for _ in range(6)] == [key(number) for number in (0, 1, 2, 0, 1, 2)]


def test_long_requests_keep_an_account_out_of_turn() -> None:
    """The one with a stream gets the next request only when the others have one, too."""
    least = rotation(3)
    least.started(key(0))
    assert serve(least, 4) == ["1", "2", "1", "2"]
    least.started(key(1))
    least.started(key(2))
    assert serve(least) == ["0"]


def test_an_end_without_a_beginning_harms_nobody() -> None:
    """What was in flight before this rotation was there counts for nothing when it ends."""
    least = rotation(2)
    for _ in range(3):
        least.finished(key(0))
    assert serve(least, 4).count("0") == 2
    assert not least._in_flight


def test_it_has_no_options() -> None:
    """One that is given is a mistake."""
    with pytest.raises(ConfigurationError, match=r"pools\.p\.rotation\.x: there is no such key"):
        made("least_in_flight", {"x": 1})
