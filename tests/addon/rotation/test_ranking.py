"""Accounts in the order of a rank that changes."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import AccountKey
from authpool.rotation.ranking import Ranking
from support.rotations import key

NUMBERS = st.integers(0, 7)


@given(
    steps=st.lists(st.tuples(NUMBERS, st.one_of(st.none(), st.integers(0, 3)))),
    tried=st.sets(NUMBERS.map(key)),
)
def test_the_first_is_the_smallest_of_those_not_tried(
    steps: Iterable[tuple[int, int | None]], tried: set[AccountKey]
) -> None:
    """Whatever was placed, moved and left out before; alike ones in the order in which they were placed."""
    ranking: Ranking[int] = Ranking()
    plain: dict[AccountKey, int] = {}
    for number, rank in steps:
        plain.pop(key(number), None)
        if rank is None:
            ranking.discard(key(number))
        else:
            ranking.place(key(number), rank)
            plain[key(number)] = rank
        for passed in ((), tried):
            untried = [name for name in plain if name not in passed]
            assert ranking.first(passed) == min(untried, key=lambda name: plain[name], default=None)
    assert len(ranking) == len(plain)
    assert all(ranking[name] == rank for name, rank in plain.items())


def test_it_does_not_grow_with_what_it_has_seen() -> None:
    """Ranks that were given up take no room for long, whether or not anybody asks for the first."""
    ranking: Ranking[int] = Ranking()
    for rank in range(10_000):
        ranking.place(key(rank % 10), -rank)
        if rank % 3 == 0:
            ranking.discard(key(rank % 7))
    assert len(ranking._heap) < 200
