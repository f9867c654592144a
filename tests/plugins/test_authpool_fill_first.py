"""fill_first: the first account in order, and the next one only while it can't serve."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.errors import ConfigurationError
from authpool_fill_first import FillFirst
from support.rotations import REQUEST, key, made, serve

ORDER = ("c", "a")
BY_ORDER = ["c", "a", "b", "d", "e"]


@given(steps=st.lists(st.sampled_from("abcde")), tried=st.sets(st.sampled_from("abcde"), max_size=3))
def test_the_first_that_can_serve_is_chosen(steps: list[str], tried: set[str]) -> None:
    """By the order, then by name, whoever came first."""
    rotation = FillFirst(ORDER)
    members: set[str] = set()
    for name in steps:
        (rotation.remove if name in members else rotation.add)(key(name))
        members ^= {name}
        left = [key(name) for name in BY_ORDER if name in members - tried]
        assert rotation.choose(REQUEST, {key(name) for name in tried}) == (left[0] if left else None)


def test_it_spills_over_and_comes_back() -> None:
    """The second serves while the first is away, and no longer."""
    rotation = made("fill_first", {"order": ["Prepaid@Example.com"]})
    for name in ("a", "b", "prepaid@example.com"):
        rotation.add(key(name))
    assert serve(rotation, 2) == ["prepaid@example.com"] * 2
    rotation.remove(key("prepaid@example.com"))
    assert serve(rotation, 2) == ["a"] * 2
    rotation.add(key("prepaid@example.com"))
    assert serve(rotation, 2) == ["prepaid@example.com"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    (
        ({"ordre": []}, r"rotation\.ordre: there is no such key\. Did you mean `order`\?"),
        ({"order": "a"}, r"rotation\.order: must be an array of strings, not a string"),
        ({"order": ["a", 1]}, r"rotation\.order\[1\]: must be a string"),
        ({"order": ["a", " "]}, r"rotation\.order\[1\]: is empty"),
        ({"order": ["a", "b", "A"]}, r"rotation\.order\[2\]: is there twice"),
    ),
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    """Each with file, key and remedy."""
    with pytest.raises(ConfigurationError, match=rf"^authpool\.toml: pools\.p\.{message}"):
        made("fill_first", options)
