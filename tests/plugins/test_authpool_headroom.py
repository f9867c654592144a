"""headroom: the account with the largest share of its quota left."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.errors import ConfigurationError
from authpool.rotation.quota import Quota
from authpool_headroom import Headroom
from support.clock import FakeClock
from support.rotations import REQUEST, key, made, serve


def rotation(*names: str, clock: FakeClock | None = None) -> Headroom:
    filled = Headroom(clock or FakeClock())
    for name in names:
        filled.add(key(name))
    return filled


def choice(headroom: Headroom) -> str | None:
    chosen = headroom.choose(REQUEST, ())
    return None if chosen is None else chosen.name


@given(quotas=st.dictionaries(st.sampled_from("abcde"), st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1))
def test_nobody_has_more_left_than_who_is_chosen(quotas: dict[str, tuple[int, int]]) -> None:
    """By the share of its own quota, not by the number."""
    headroom = rotation(*quotas)
    shares = {}
    for name, (remaining, limit) in quotas.items():
        quota = Quota(remaining=remaining, limit=limit)
        headroom.observe(key(name), quota)
        shares[name] = quota.share
    assert shares[choice(headroom) or ""] == max(shares.values())


def test_what_is_in_flight_is_taken_off() -> None:
    """Ten requests on a small quota weigh more than on a large one."""
    headroom = rotation("small", "large")
    headroom.observe(key("small"), Quota(remaining=100, limit=100))
    headroom.observe(key("large"), Quota(remaining=970, limit=1_000))
    for _ in range(10):
        assert choice(headroom) is not None
        headroom.started(key("small"))
        headroom.started(key("large"))
    assert choice(headroom) == "large"
    for _ in range(10):
        headroom.finished(key("small"))
    assert choice(headroom) == "large", "they were started since the upstream told what is left"
    headroom.observe(key("small"), Quota(remaining=99, limit=100))
    assert choice(headroom) == "small"


def test_requests_that_were_in_flight_before_still_count() -> None:
    """The upstream's word comes with one answer, and may not have counted the others."""
    headroom = rotation("a", "b")
    for _ in range(5):
        headroom.started(key("a"))
    headroom.observe(key("a"), Quota(remaining=100, limit=100))
    headroom.observe(key("b"), Quota(remaining=97, limit=100))
    assert choice(headroom) == "b"
    for _ in range(5):
        headroom.finished(key("a"))
    assert choice(headroom) == "a"


def test_the_unknown_count_as_full_and_are_spread() -> None:
    """Those without a quota come first, in turn, the less busy before the busier."""
    headroom = rotation("a", "b", "told")
    headroom.observe(key("told"), Quota(remaining=98, limit=100))
    assert serve(headroom, 4) == ["a", "b", "a", "b"]
    headroom.started(key("a"))
    assert serve(headroom, 2) == ["b", "b"]
    for _ in range(3):
        headroom.started(key("a"))
        headroom.started(key("b"))
    assert choice(headroom) == "told"


async def test_a_quota_that_started_anew_is_full() -> None:
    """From the very second that the upstream named, whether or not anything was heard since."""
    clock = FakeClock()
    headroom = rotation("dry", "half", clock=clock)
    headroom.observe(key("dry"), Quota(remaining=0, limit=100, resets_at=clock.time() + 30))
    headroom.observe(key("half"), Quota(remaining=50, limit=100, resets_at=clock.time() + 3600))
    assert choice(headroom) == "half"
    await clock.advance(29.9)
    assert choice(headroom) == "half"
    await clock.advance(0.1)
    assert choice(headroom) == "dry"


@pytest.mark.parametrize(("first", "then"), ((30, 10), (10, 30), (10, 10)))
async def test_the_last_word_on_the_start_counts(first: float, then: float) -> None:
    """An upstream may name another time with each answer, an earlier or a later one."""
    clock = FakeClock()
    headroom = rotation("dry", "half", clock=clock)
    headroom.observe(key("half"), Quota(remaining=50, limit=100, resets_at=clock.time() + 3600))
    for seconds in (20, first, then):
        headroom.observe(key("dry"), Quota(remaining=0, limit=100, resets_at=clock.time() + seconds))
    await clock.advance(then - 0.1)
    assert choice(headroom) == "half"
    await clock.advance(0.1)
    assert choice(headroom) == "dry"


async def test_a_quota_without_an_end_is_forgotten() -> None:
    """An account that is never chosen would never be heard of again: after a time it counts as full."""
    clock = FakeClock()
    headroom = rotation("dry", "half", clock=clock)
    headroom.observe(key("dry"), Quota(remaining=0, limit=100))
    headroom.observe(key("half"), Quota(remaining=50, limit=100, resets_at=clock.time() + 3600))
    await clock.advance(59.9)
    assert choice(headroom) == "half"
    await clock.advance(0.1)
    assert choice(headroom) == "dry"


def test_the_most_that_was_left_stands_for_an_unknown_whole() -> None:
    """The IETF's `RateLimit` field tells what is left and not of how much."""
    headroom = rotation("a", "b")
    headroom.observe(key("a"), Quota(remaining=1_000))
    headroom.observe(key("a"), Quota(remaining=300))
    headroom.observe(key("b"), Quota(remaining=50, limit=100))
    assert choice(headroom) == "b"
    headroom.observe(key("a"), Quota(remaining=900))
    assert choice(headroom) == "a"


def test_what_is_known_outlasts_absence() -> None:
    """A quota is remembered while its account is out, and heard of an account that is out."""
    headroom = rotation("a", "b")
    headroom.remove(key("a"))
    headroom.observe(key("a"), Quota(remaining=10, limit=100))
    headroom.add(key("a"))
    assert serve(headroom, 2) == ["b", "b"]


def test_an_empty_quota_is_no_reason_to_refuse() -> None:
    """It is chosen when it is the only one left: the upstream has the last word."""
    headroom = rotation("a")
    headroom.observe(key("a"), Quota(remaining=0, limit=0))
    assert choice(headroom) == "a"


@pytest.mark.parametrize(
    ("options", "message"),
    (
        ({"forget": 3}, r"rotation\.forget: there is no such key\. Did you mean `forget_seconds`\?"),
        ({"forget_seconds": "3"}, r"rotation\.forget_seconds: must be a whole number, not a string"),
        ({"forget_seconds": 0}, r"rotation\.forget_seconds: is out of range: 1 to 86400"),
    ),
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    """Each with file, key and remedy."""
    with pytest.raises(ConfigurationError, match=rf"^authpool\.toml: pools\.p\.{message}"):
        made("headroom", options)
    assert isinstance(made("headroom", {"forget_seconds": 3}), Headroom)
