"""least_recently_used: the account whose last use is longest ago."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import AccountKey
from authpool.errors import ConfigurationError
from authpool_least_recently_used import LeastRecentlyUsed
from support.rotations import REQUEST, key, made, serve


@given(steps=st.lists(st.one_of(st.none(), st.integers(0, 5))), tried=st.sets(st.integers(0, 5), max_size=2))
def test_nobody_has_rested_longer_than_who_is_chosen(steps: list[int | None], tried: set[int]) -> None:
    """Whoever comes, goes and comes back in between."""
    rotation = LeastRecentlyUsed()
    members: set[AccountKey] = set()
    last_use: dict[AccountKey, int] = {}
    passed = {key(number) for number in tried}
    for now, step in enumerate(steps, 1):
        if step is not None:
            (rotation.remove if key(step) in members else rotation.add)(key(step))
            members ^= {key(step)}
            continue
        chosen = rotation.choose(REQUEST, passed)
        if chosen is not None:
            assert last_use.get(chosen, 0) == min(last_use.get(name, 0) for name in members - passed)
            last_use[chosen] = now


def test_who_comes_back_keeps_its_place() -> None:
    """An account that was used a moment ago and was away waits for those that rested longer; a new one does not."""
    rotation = LeastRecentlyUsed()
    for name in "abc":
        rotation.add(key(name))
    assert serve(rotation, 3) == ["a", "b", "c"]
    rotation.remove(key("a"))
    rotation.add(key("a"))
    assert serve(rotation) == ["a"]
    rotation.remove(key("a"))
    rotation.add(key("a"))
    rotation.add(key("new"))
    assert serve(rotation, 4) == ["new", "b", "c", "a"]


def test_a_use_counts_whoever_chose() -> None:
    """An account that is used without having been chosen here, for a renewed attempt, goes to the end as well."""
    rotation = LeastRecentlyUsed()
    for name in "abc":
        rotation.add(key(name))
    rotation.started(key("a"))
    assert serve(rotation, 3) == ["b", "c", "a"]
    rotation.remove(key("b"))
    rotation.started(key("b"))
    assert serve(rotation, 3) == ["c", "a", "c"]
    rotation.add(key("b"))
    assert serve(rotation, 3) == ["b", "a", "c"]


def test_it_has_no_options() -> None:
    """One that is given is a mistake."""
    with pytest.raises(ConfigurationError, match=r"pools\.p\.rotation\.x: there is no such key"):
        made("least_recently_used", {"x": 1})
