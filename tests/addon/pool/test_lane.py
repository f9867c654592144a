"""Who serves in a lane: cooldowns, bursts, probes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import AccountKey
from authpool.pool.lane import FIRST_SECONDS, LONGEST_SECONDS, PROBE_SECONDS, Lane
from authpool.rotation.rotation import RotationRequest
from authpool_round_robin import RoundRobin

ALICE, BOB = AccountKey.of("p", "alice"), AccountKey.of("p", "bob")
ASKED = RotationRequest(method="GET", host="h", path="/")


def lane_of(*keys: AccountKey) -> Lane:
    lane = Lane(RoundRobin(), random.Random(1))
    for key in keys:
        lane.admit(key, 0)
    return lane


def chosen(lane: Lane, times: int = 4) -> set[AccountKey | None]:
    return {lane.choose(ASKED, ()) for _ in range(times)}


def test_a_cooling_account_is_left_out_until_its_time() -> None:
    """And it comes back by itself."""
    lane = lane_of(ALICE, BOB)
    lane.cool(ALICE, 10.0, "429", sent_at=1, now=2)
    assert chosen(lane) == {BOB}
    assert lane.next_end() == 10.0
    lane.thaw(9.9)
    assert chosen(lane) == {BOB}
    lane.thaw(10)
    assert chosen(lane) == {ALICE, BOB}


def test_a_cooldown_ends_with_one_probe() -> None:
    """The first request after it goes out alone; the account serves again when that one was served."""
    lane = lane_of(ALICE)
    lane.cool(ALICE, 10.0, "429", sent_at=1, now=2)
    lane.thaw(11)
    assert lane.choose(ASKED, ()) == ALICE
    lane.began(ALICE, "probe", 11)
    assert lane.choose(ASKED, ()) is None
    assert lane.proved(ALICE, sent_at=9, now=12) is False  # an old one that was served late proves nothing
    assert lane.choose(ASKED, ()) is None
    assert lane.proved(ALICE, sent_at=11, now=12) is True
    assert lane.choose(ASKED, ()) == ALICE
    assert lane.throttles == {}


def test_a_probe_that_tells_nothing_makes_room_for_the_next() -> None:
    """Its client left, or the upstream never answered."""
    lane = lane_of(ALICE)
    lane.cool(ALICE, 10.0, "429", sent_at=1, now=2)
    lane.thaw(11)
    lane.began(ALICE, "probe", 11)
    lane.ended(ALICE, "another", 12)
    assert lane.choose(ASKED, ()) is None
    lane.ended(ALICE, "probe", 12)
    assert lane.choose(ASKED, ()) == ALICE
    lane.began(ALICE, "hangs", 13)
    assert lane.choose(ASKED, ()) is None
    lane.thaw(13 + PROBE_SECONDS)
    assert lane.choose(ASKED, ()) == ALICE


def test_a_probe_that_is_refused_cools_for_longer() -> None:
    """Nobody says how long: each time twice as long, up to the longest, give or take a quarter."""
    lane = lane_of(ALICE)
    now = 0.0
    for strike in range(14):
        throttle = lane.cool(ALICE, None, "429", sent_at=now + 0.5, now=now + 1)
        expected = min(LONGEST_SECONDS, FIRST_SECONDS * 2**strike)
        assert throttle.strikes == strike + 1
        assert throttle.until - (now + 1) == pytest.approx(expected, rel=0.26)
        now = throttle.until
        lane.thaw(now)
        lane.began(ALICE, strike, now)


def test_a_burst_counts_once() -> None:
    """Answers to what was sent before the cooldown began are of one burst with it; they may only make it longer."""
    lane = lane_of(ALICE)
    first = lane.cool(ALICE, None, "429", sent_at=1, now=2)
    until = first.until
    for sent_at in (0.5, 1.5, 2.0):
        assert lane.cool(ALICE, None, "429", sent_at=sent_at, now=2.1) is first
    assert (first.strikes, first.until) == (1, until)
    lane.cool(ALICE, 60.0, "429", sent_at=1.5, now=2.2)
    assert (first.strikes, first.until) == (1, 60.0)
    lane.thaw(until)
    assert chosen(lane) == {None}
    lane.cool(ALICE, 30.0, "429", sent_at=1.5, now=2.2)
    assert first.until == 60.0


def test_a_request_that_goes_out_during_a_cooldown_does_not_count_again() -> None:
    """It had the account before the cooldown began, and waited for a connection: it is of the same burst."""
    lane = lane_of(ALICE)
    first = lane.cool(ALICE, None, "429", sent_at=1, now=2)
    for number in range(1, 10):
        lane.cool(ALICE, None, "429", sent_at=2 + number / 20, now=2 + number / 10)
    assert first.strikes == 1
    assert first.until < 3.5
    lane.thaw(first.until)
    lane.cool(ALICE, None, "429", sent_at=first.until, now=4)
    assert first.strikes == 2


def test_an_account_that_left_and_came_back_is_still_cooling() -> None:
    """A pause and a resume, or a refresh, end no cooldown."""
    lane = lane_of(ALICE)
    lane.cool(ALICE, 10.0, "429", sent_at=1, now=2)
    lane.dismiss(ALICE, 3)
    assert lane.next_end() is None
    lane.admit(ALICE, 4)
    assert chosen(lane) == {None}
    lane.thaw(10)
    assert chosen(lane) == {ALICE}


def test_a_cooldown_lasts_as_long_when_the_clock_is_put_back() -> None:
    """An hour back is not an hour more, and an hour forward ends nothing."""
    lane = lane_of(ALICE)
    lane.cool(ALICE, 10_010.0, "429", sent_at=10_000, now=10_000)
    lane.shift(-3600, 6405)
    lane.thaw(6405)
    assert chosen(lane) == {None}
    assert lane.next_end() == 6410.0
    lane.thaw(6410)
    assert chosen(lane) == {ALICE}


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("cool", "cool_plain", "began", "ended", "proved", "admit", "dismiss", "wait", "lift")),
        st.sampled_from((ALICE, BOB)),
        st.floats(0, 20),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_nobody_is_left_out_for_ever(  # noqa: C901 - one branch for each thing that may happen
    operations: list[tuple[str, AccountKey, float]],
) -> None:
    """Whatever happens: who cools or is being probed never serves, and who is able does so in the end."""
    lane, now, able = lane_of(ALICE, BOB), 0.0, {ALICE, BOB}
    for what, key, span in operations:
        match what:
            case "cool":
                lane.cool(key, now + span, "429", sent_at=now - 0.1, now=now)
            case "cool_plain":
                lane.cool(key, None, "429", sent_at=now + 0.1, now=now)
            case "began":
                lane.began(key, span, now)
            case "ended":
                lane.ended(key, span, now)
            case "proved":
                lane.proved(key, now, now)
            case "admit":
                able.add(key)
                lane.admit(key, now)
            case "dismiss":
                able.discard(key)
                lane.dismiss(key, now)
            case "lift":
                lane.lift(key, now)
            case "wait":
                now += span
        lane.thaw(now)
        blocked = {key for key, throttle in lane.throttles.items() if throttle.blocks(now)}
        assert chosen(lane) - {None} == able - blocked
        assert set(lane.serving()) == able - blocked
        if able & blocked:
            assert lane.next_end() is not None
    lane.thaw(now + 2 * LONGEST_SECONDS + PROBE_SECONDS)
    assert chosen(lane) - {None} == able
