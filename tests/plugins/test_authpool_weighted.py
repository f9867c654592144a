"""weighted: every account as often as its weight says."""

from collections import Counter
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.errors import ConfigurationError
from authpool_weighted import Weighted
from support.rotations import REQUEST, key, made, serve

WEIGHTS = st.lists(st.sampled_from([0.001, 0.3, 0.5, 1, 2, 3, 7.5, 1000]), min_size=2, max_size=6)


def rotation(weights: list[float]) -> Weighted:
    weighted = Weighted({str(number): weight for number, weight in enumerate(weights)})
    for number in range(len(weights)):
        weighted.add(key(number))
    return weighted


@given(weights=WEIGHTS, before=st.integers(0, 100), during=st.integers(0, 200), churn=st.lists(st.integers(0, 9)))
def test_the_bound_holds(weights: list[float], before: int, during: int, churn: list[int]) -> None:
    """Served per weight differs by 1/v + 1/w at most over any span, by the larger of both from a common start."""
    weighted = rotation(weights)
    present: set[int] = set()
    spans = [Counter[str](), Counter[str]()]
    for number in range(before + during):
        if number < len(churn):  # others come and go, and come back
            other = churn[number]
            (weighted.remove if other in present else weighted.add)(key(f"other-{other}"))
            present ^= {other}
        (name,) = serve(weighted)
        spans[0][name] += 1
        spans[1][name] += number >= before
    for one, two in combinations(range(len(weights)), 2):
        steps = [1 / Fraction(weights[number]) for number in (one, two)]
        for span, bound in zip(spans, (max(steps), sum(steps)), strict=True):
            apart = span[str(one)] * steps[0] - span[str(two)] * steps[1]
            assert abs(apart) <= bound + Fraction(1, 10**6)


def test_the_shares_are_those_of_the_weights() -> None:
    """Of 600 requests, weights 3, 2 and 1 serve 300, 200 and 100, evenly mixed."""
    assert Counter(serve(rotation([3, 2, 1]), 600)) == {"0": 300, "1": 200, "2": 100}
    assert Counter(serve(rotation([3, 2, 1]), 6)) == {"0": 3, "1": 2, "2": 1}


def test_who_comes_back_makes_up_for_nothing() -> None:
    """After 1,000 requests without it an account takes its turn, and no burst."""
    weighted = rotation([1, 1])
    weighted.remove(key(0))
    serve(weighted, 1_000)
    weighted.add(key(0))
    assert Counter(serve(weighted, 10)) == {"0": 5, "1": 5}


def test_leaving_wins_and_loses_nothing() -> None:
    """An account that leaves and comes back after each request is served as often as if it had stayed."""
    weighted = rotation([10, 1])
    served = Counter[str]()
    for _ in range(110):
        served.update(serve(weighted))
        weighted.remove(key(1))
        weighted.add(key(1))
    assert served == {"0": 100, "1": 10}


def test_a_failing_account_does_not_hold_up_the_others() -> None:
    """A request that goes on counts for each account it was tried on, and the rest go on by weight."""
    weighted = rotation([1, 1, 1])
    assert [weighted.choose(REQUEST, {key(0)}) for _ in range(4)] == [key(1), key(2), key(1), key(2)]


def test_options_are_read() -> None:
    """Names in any case, whole and decimal numbers, and a weight for all others."""
    weighted = made("weighted", {"weights": {"Alice@Example.com": 3, "bob@example.com": 0.5}, "default": 2})
    for name in ("alice@example.com", "bob@example.com", "carol@example.com"):
        weighted.add(key(name))
    served = Counter(serve(weighted, 55))
    assert served == {"alice@example.com": 30, "bob@example.com": 5, "carol@example.com": 20}


@pytest.mark.parametrize(
    ("options", "message"),
    (
        ({"weight": {}}, r"rotation\.weight: there is no such table\. Did you mean `weights`\?"),
        ({"weights": 3}, r"rotation\.weights: must be a table, not a whole number"),
        ({"weights": {"a": "3"}}, r"rotation\.weights\.a: must be a number, not a string\. Write `a = 1\.5`"),
        ({"weights": {"a": True}}, r"rotation\.weights\.a: must be a number, not a boolean"),
        ({"weights": {"a": 0}}, r"rotation\.weights\.a: is out of range: 0\.001 to 1000"),
        ({"weights": {"a": float("nan")}}, r"rotation\.weights\.a: is out of range"),
        ({"weights": {"a": 1, "A": 2}}, r"rotation\.weights\.A: is there twice, in another case"),
        ({"default": -1}, r"rotation\.default: is out of range"),
    ),
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    """Each with file, key and remedy."""
    with pytest.raises(ConfigurationError, match=rf"^authpool\.toml: pools\.p\.{message}"):
        made("weighted", options)
