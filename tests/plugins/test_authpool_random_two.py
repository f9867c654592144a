"""random_two: of two accounts drawn at random, the one with fewer requests in flight."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.errors import ConfigurationError
from authpool_random_two import RandomTwo
from support.rotations import REQUEST, key, made, serve


def rotation(accounts: int, seed: int = 1) -> RandomTwo:
    filled = RandomTwo(random.Random(seed))
    for number in range(accounts):
        filled.add(key(number))
    return filled


@given(seed=st.integers(0, 1000), tried=st.sets(st.integers(0, 7), max_size=5), busiest=st.integers(0, 7))
def test_the_busiest_is_spared_while_another_is_left(seed: int, tried: set[int], busiest: int) -> None:
    """Two different ones are drawn, so it always meets one that has less to do."""
    drawing = rotation(8, seed)
    drawing.started(key(busiest))
    chosen = drawing.choose(REQUEST, {key(number) for number in tried})
    assert chosen is not None
    assert chosen not in {key(number) for number in tried | {busiest}}


def test_every_account_is_as_likely() -> None:
    """While nothing is in flight each is drawn as often, also among those that are left of the tried ones."""
    drawing = rotation(5)
    served = Counter(drawing.choose(REQUEST, ()) for _ in range(5_000))
    assert all(900 < served[key(number)] < 1_100 for number in range(5))
    served = Counter(drawing.choose(REQUEST, [key(3), key(1), key("gone")]) for _ in range(3_000))
    assert all(900 < served[key(number)] < 1_100 for number in (0, 2, 4))


def test_two_draws_balance_far_better_than_one() -> None:
    """With 1,000 requests in flight on 1,000 accounts nobody has more than 4; one draw alone makes it 5 or more."""
    drawing = rotation(1_000)
    in_flight = Counter[object]()
    for _ in range(1_000):
        chosen = drawing.choose(REQUEST, ())
        assert chosen is not None
        drawing.started(chosen)
        in_flight[chosen] += 1
    alone = Counter(random.Random(1).choices(range(1_000), k=1_000))
    assert max(in_flight.values()) <= 4 < max(alone.values())


def test_the_same_seed_chooses_the_same() -> None:
    """All randomness comes in through the constructor."""
    assert serve(rotation(9, seed=5), 30) == serve(rotation(9, seed=5), 30)
    assert serve(rotation(9, seed=5), 30) != serve(rotation(9, seed=6), 30)


def test_it_has_no_options() -> None:
    """One that is given is a mistake."""
    with pytest.raises(ConfigurationError, match=r"pools\.p\.rotation\.x: there is no such key"):
        made("random_two", {"x": 1})
