"""The pool: states, what moves them, and that the rotation always holds exactly those that can serve."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import Account, AccountKey, BrokenAccount, Token
from authpool.accounts.standing import Cooldown
from authpool.config import HostPattern, PoolConfig
from authpool.pool.lane import LONGEST_SECONDS
from authpool.pool.lanes import MOST_LANES
from authpool.pool.pool import Pool, State
from authpool.rotation.rotation import RotationRequest
from authpool_least_in_flight import LeastInFlight
from authpool_round_robin import RoundRobin
from support.clock import FakeClock

REQUEST = RotationRequest(method="GET", host="api.example.com", path="/")
CONFIG = PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),))


def account(name: str = "alice", **changes: Any) -> Account:
    token = Token(access_token=f"access-{name}", refresh_token=f"refresh-{name}", expires_at=1_700_003_600)
    return replace(Account(pool="p", name=name, token=token), **changes)


def pool_of(clock: FakeClock, *records: Account | BrokenAccount) -> Pool:
    return Pool(CONFIG, RoundRobin, clock, records)


def state_of(pool: Pool, name: str, clock: FakeClock) -> State:
    member = pool.get(AccountKey.of("p", name))
    assert member is not None
    return member.state(clock.time())


def chosen(pool: Pool, requests: int = 20) -> set[str]:
    members = [pool.choose(REQUEST) for _ in range(requests)]
    return {member.account.name for member in members if member is not None}


@pytest.mark.parametrize(
    ("changes", "state"),
    (
        ({}, State.READY),
        ({"proxy_disabled": True}, State.PAUSED),
        ({"disabled": True}, State.DISABLED),
        ({"disabled": True, "proxy_disabled": True}, State.DISABLED),
    ),
)
def test_disabled_is_judged_before_paused(changes: dict[str, Any], state: State, clock: FakeClock) -> None:
    """What an account's record says is its state, and only a ready one is chosen."""
    pool = pool_of(clock, account(**changes))
    assert state_of(pool, "alice", clock) is state
    assert (pool.choose(REQUEST) is not None) == (state is State.READY)


def test_a_broken_account_affects_nobody_else(clock: FakeClock) -> None:
    """It is there to be seen, and is never chosen."""
    pool = pool_of(clock, account("alice"), BrokenAccount(pool="p", name="bob", reason="not valid TOML"))
    assert state_of(pool, "bob", clock) is State.BROKEN
    assert chosen(pool) == {"alice"}


def test_a_cooldown_ends_by_itself(clock: FakeClock) -> None:
    """Cooling until a time means just that."""
    pool = pool_of(clock, account("alice"), account("bob"))
    pool.cool(AccountKey.of("p", "alice"), clock.time() + 10, "its refresh failed")
    assert state_of(pool, "alice", clock) is State.COOLING
    assert chosen(pool) == {"bob"}
    assert pool.next_return() == clock.time() + 10
    clock.jump(10)
    assert chosen(pool) == {"alice", "bob"}


def test_a_shorter_cooldown_does_not_cut_a_longer_one(clock: FakeClock) -> None:
    """The later end counts."""
    pool = pool_of(clock, account("alice"))
    pool.cool(AccountKey.of("p", "alice"), clock.time() + 60, "long")
    pool.cool(AccountKey.of("p", "alice"), clock.time() + 5, "short")
    clock.jump(30)
    assert pool.choose(REQUEST) is None


def test_a_new_credential_ends_a_cooldown(clock: FakeClock) -> None:
    """Whatever was held against the old one is not held against the new one."""
    pool = pool_of(clock, account("alice"))
    pool.cool(AccountKey.of("p", "alice"), clock.time() + 60, "its refresh failed")
    pool.put(account("alice", token=Token(refresh_token="another")))
    assert chosen(pool) == {"alice"}


def test_a_verdict_the_store_did_not_take_keeps_the_account_out(clock: FakeClock) -> None:
    """A disk that is full does not bring a dead account back, whatever the file still says."""
    pool = pool_of(clock, account("alice"))
    pool.condemn(account("alice", disabled=True, disabled_reason="invalid_grant"), stored=False)
    pool.put(account("alice"))  # the file, unchanged
    assert state_of(pool, "alice", clock) is State.DISABLED
    pool.put(account("alice", token=Token(refresh_token="another")))
    assert state_of(pool, "alice", clock) is State.READY


def test_once_the_store_has_the_verdict_its_word_counts(clock: FakeClock) -> None:
    """An operator who clears `disabled` in the file by hand is believed."""
    pool = pool_of(clock, account("alice"))
    pool.condemn(account("alice", disabled=True), stored=True)
    assert state_of(pool, "alice", clock) is State.DISABLED
    pool.put(account("alice"))
    assert state_of(pool, "alice", clock) is State.READY


def test_a_pool_built_anew_inherits_what_only_memory_knows(clock: FakeClock) -> None:
    """A reload forgets no cooldown, no count and no verdict that could not be written."""
    former = pool_of(clock, account("alice"), account("bob"), account("carol"))
    former.cool(AccountKey.of("p", "alice"), clock.time() + 60, "its refresh failed")
    former.condemn(account("bob", disabled=True), stored=False)
    carol = former.get(AccountKey.of("p", "carol"))
    assert carol is not None
    carol.served = 7
    pool = pool_of(clock, account("alice"), account("bob"), account("carol"))
    pool.inherit(former)
    assert [state_of(pool, name, clock) for name in ("alice", "bob", "carol")] == [
        State.COOLING,
        State.DISABLED,
        State.READY,
    ]
    assert [member.served for member in pool if member.account.name == "carol"] == [7]
    assert chosen(pool) == {"carol"}


def test_names_are_one_account_in_any_case(clock: FakeClock) -> None:
    """`Alice` and `alice` are the same member."""
    pool = pool_of(clock, account("Alice"))
    pool.put(account("alice", proxy_disabled=True))
    assert len(pool) == 1
    assert state_of(pool, "ALICE", clock) is State.PAUSED


def test_the_leads_follow_the_lifetime(clock: FakeClock) -> None:
    """Advisory at min(300 s, 20 %), mandatory at 30 s, both shorter for short-lived tokens."""
    now = int(clock.time())
    long = account("long", token=Token(access_token="a", expires_at=now + 3600))
    short = account("short", token=Token(access_token="b", expires_at=now + 100))
    leads = {m.account.name: (m.advisory_seconds, m.mandatory_seconds) for m in pool_of(clock, long, short)}
    assert leads == {"long": (300.0, 30.0), "short": (20.0, 10.0)}


def test_a_cooldown_in_the_record_is_a_cooldown(clock: FakeClock) -> None:
    """Of an account that is loaded, and of one that another process told to pause; taken out of it, it is over."""
    soon = int(clock.time()) + 60
    pool = pool_of(clock, account("alice", cooldowns=(Cooldown(until=soon, reason="429"),)), account("bob"))
    assert (state_of(pool, "alice", clock), state_of(pool, "bob", clock)) == (State.COOLING, State.READY)
    assert pool.next_return() == soon
    pool.put(account("bob", cooldowns=(Cooldown(until=soon - 10, reason="429"),)))
    assert chosen(pool) == set()
    assert pool.next_return() == soon - 10
    pool.put(account("alice"))
    assert chosen(pool) == {"alice"}


def test_a_cooldown_for_one_kind_of_request_leaves_the_others_alone(clock: FakeClock) -> None:
    """In its lane only; the account is ready for people, and the lane is gone when nobody cools for it any more."""
    pool = pool_of(clock, account("alice"), account("bob"))
    alice = AccountKey.of("p", "alice")
    pool.throttle(alice, clock.time() + 60, "429", lane="large", sent_at=clock.time())

    def in_lane(lane: str) -> set[str]:
        return {m.account.name for _ in range(6) if (m := pool.choose(REQUEST, (), lane)) is not None}

    assert (in_lane("large"), in_lane("small"), in_lane("")) == ({"bob"}, {"alice", "bob"}, {"alice", "bob"})
    assert state_of(pool, "alice", clock) is State.READY
    assert pool.next_return("large") == clock.time() + 60
    assert pool.next_return("small") is None
    pool.put(account("bob", proxy_disabled=True))
    assert (in_lane("large"), in_lane("small")) == (set(), {"alice"})
    clock.jump(60)
    assert in_lane("large") == {"alice"}
    pool.began(alice, "probe", "large")
    assert (in_lane("large"), in_lane("small")) == (set(), {"alice"})
    assert pool.proved(alice, lane="large", sent_at=clock.time())
    assert (in_lane("large"), in_lane("small")) == ({"alice"}, {"alice"})


def test_a_probe_of_all_requests_is_the_only_one_in_every_lane(clock: FakeClock) -> None:
    """Also for kinds of requests that have a lane of their own; and when it was served, they follow at once."""
    pool = pool_of(clock, account("alice"), account("bob"))
    alice, bob = AccountKey.of("p", "alice"), AccountKey.of("p", "bob")
    pool.throttle(bob, clock.time() + 600, "429", lane="large", sent_at=clock.time())
    pool.throttle(alice, clock.time() + 60, "429", sent_at=clock.time())
    assert pool.choose(REQUEST, (), "large") is None
    clock.jump(60)
    assert pool.choose(REQUEST, (bob,)) is not None
    pool.began(alice, "probe")
    assert pool.choose(REQUEST, (), "large") is None
    pool.put(account("alice", generation=1))
    assert pool.proved(alice, sent_at=clock.time())
    assert pool.choose(REQUEST, (), "large") is not None


def test_a_probe_that_leaves_makes_room_in_every_lane(clock: FakeClock) -> None:
    """Whatever was settled meanwhile."""
    pool = pool_of(clock, account("alice"), account("bob"))
    alice, bob = AccountKey.of("p", "alice"), AccountKey.of("p", "bob")
    pool.throttle(bob, clock.time() + 600, "429", lane="large", sent_at=clock.time())
    pool.throttle(alice, clock.time() + 60, "429", sent_at=clock.time())
    clock.jump(60)
    assert pool.choose(REQUEST, (), "large") is not None
    pool.began(alice, "probe")
    pool.put(account("alice", generation=1))
    assert pool.choose(REQUEST, (), "large") is None
    pool.ended(alice, "probe")
    assert pool.choose(REQUEST, (), "large") is not None


def test_a_cooldown_taken_out_of_the_record_is_over_after_a_reload_too(clock: FakeClock) -> None:
    """An operator edits the file and reloads: what he took out is not carried over from before."""
    cooling = account("alice", cooldowns=(Cooldown(until=int(clock.time()) + 600, reason="429"),))
    before = pool_of(clock, cooling)
    edited, untouched = pool_of(clock, account("alice")), pool_of(clock, cooling)
    untouched.inherit(before)
    assert state_of(untouched, "alice", clock) is State.COOLING
    edited.inherit(before)
    assert state_of(edited, "alice", clock) is State.READY
    assert chosen(edited) == {"alice"}


def test_a_lane_that_nobody_asks_for_any_more_is_dropped(clock: FakeClock) -> None:
    """Each lane costs every request a little, so one that is over must not stay because its kind never comes again."""
    pool = pool_of(clock, account("alice"))
    pool.throttle(AccountKey.of("p", "alice"), clock.time() + 60, "429", lane="rare", sent_at=clock.time())
    clock.jump(60)
    pool.counts()
    assert set(pool._lanes.kinds) == {"rare"}
    clock.jump(LONGEST_SECONDS)
    pool.counts()
    assert pool._lanes.kinds == {}


def test_there_are_never_more_lanes_than_anybody_could_need(clock: FakeClock) -> None:
    """What clients name must not take up memory for ever: the lane that is free first makes room."""
    pool = pool_of(clock, account("alice"), account("bob"))
    for number in range(2 * MOST_LANES):
        pool.throttle(
            AccountKey.of("p", "alice"), clock.time() + 60 + number, "429", lane=f"l{number}", sent_at=clock.time()
        )
    assert pool.choose(REQUEST, (), "l0") is not None
    assert {m.account.name for _ in range(4) if (m := pool.choose(REQUEST, (), f"l{2 * MOST_LANES - 1}"))} == {"bob"}
    assert len(pool._lanes.kinds) == MOST_LANES


def test_who_was_paused_while_cooling_still_comes_back(clock: FakeClock) -> None:
    """The end of the cooldown is not forgotten when somebody asks for it meanwhile; and a pause has no end."""
    pool = pool_of(clock, account("alice"))
    pool.cool(AccountKey.of("p", "alice"), clock.time() + 60, "its refresh failed")
    pool.put(account("alice", proxy_disabled=True))
    assert pool.next_return() is None
    pool.put(account("alice"))
    assert pool.next_return() == clock.time() + 60
    clock.jump(60)
    assert chosen(pool) == {"alice"}


def test_an_account_that_was_removed_and_added_again_begins_anew(clock: FakeClock) -> None:
    """Requests that were in flight on it before are not counted against it for ever."""
    pool = Pool(CONFIG, LeastInFlight, clock, [account("alice"), account("bob")])
    alice = AccountKey.of("p", "alice")
    for holder in range(3):
        pool.began(alice, holder)
    pool.remove(alice)
    pool.put(account("alice"))
    for holder in range(3):
        pool.ended(alice, holder)
    assert chosen(pool) == {"alice", "bob"}


def test_a_spared_account_returns_at_its_reset(clock: FakeClock) -> None:
    """By itself, and it is told once, so that its file can say so."""
    soon = int(clock.time()) + 60
    spared = {"proxy_disabled": True, "proxy_disabled_reason": "quota_protection", "proxy_disabled_until": soon}
    pool = pool_of(clock, account("alice", **spared))
    assert state_of(pool, "alice", clock) is State.PAUSED
    assert (pool.next_return(), pool.take_spared()) == (soon, [])
    clock.jump(60)
    assert chosen(pool) == {"alice"}
    assert [member.account.name for member in pool.take_spared()] == ["alice"]
    assert pool.take_spared() == []
    at_start = pool_of(clock, account("alice", **spared))
    assert chosen(at_start) == {"alice"}
    assert [member.account.name for member in at_start.take_spared()] == ["alice"]
    disabled = account("alice", disabled=True, **spared)
    pool.put(disabled)
    assert state_of(pool, "alice", clock) is State.DISABLED


type Step = tuple[str, int]

_SPARED = {"proxy_disabled": True, "proxy_disabled_reason": "quota_protection"}
_ACTIONS = (
    *("put", "pause", "spare", "disable", "break", "cool", "warm", "remove", "later", "throttle", "throttle_lane"),
    *("began", "ended", "proved", "reload", "stored"),
)


@given(steps=st.lists(st.tuples(st.sampled_from(_ACTIONS), st.integers(0, 4)), max_size=50))
def test_the_rotation_holds_exactly_those_that_can_serve(steps: list[Step]) -> None:
    """After any history, who is chosen is who is ready, and evenly so; and the running counts are the true ones."""
    clock = FakeClock()
    pool = pool_of(clock)
    for action, number in steps:
        pool = _play(pool, clock, action, number)
        now = clock.time()
        ready = {m.record.name for m in pool if m.state(now) is State.READY}
        assert {k: v for k, v in pool.counts().items() if v} == Counter(m.state(now) for m in pool)
        waiting = any(
            m.state(now) is State.COOLING or (m.state(now) is State.PAUSED and m.account.spared()) for m in pool
        )
        assert (pool.next_return() is not None) == waiting
        in_lane = {m.record.name for m in (pool.choose(REQUEST, (), "lane") for _ in range(5)) if m}
        assert in_lane <= ready
        served = Counter(m.record.name for m in (pool.choose(REQUEST) for _ in range(3 * len(ready))) if m)
        assert served == dict.fromkeys(ready, 3)
    clock.jump(10_000)
    able = {m.record.name for m in pool if m.standing(clock.time()) is State.READY}
    assert chosen(pool) == able


def _play(pool: Pool, clock: FakeClock, action: str, number: int) -> Pool:  # noqa: C901, PLR0912 - one each
    name, key, now = f"a{number}", AccountKey.of("p", f"a{number}"), clock.time()
    match action:
        case "put":
            pool.put(account(name))
        case "pause":
            pool.put(account(name, proxy_disabled=True))
        case "spare":
            pool.put(account(name, proxy_disabled_until=int(now) + 4, **_SPARED))
        case "stored":
            pool.put(account(name, cooldowns=(Cooldown(until=int(now) + 7), Cooldown(until=int(now) + 5, key="lane"))))
        case "disable":
            pool.put(account(name, disabled=True))
        case "break":
            pool.put(BrokenAccount(pool="p", name=name, reason="cut in half"))
        case "cool":
            pool.cool(key, now + 5, "")
        case "warm":
            pool.warm(key)
        case "throttle":
            pool.throttle(key, now + 5 if number % 2 else None, "429", sent_at=now - number)
        case "throttle_lane":
            pool.throttle(key, now + 5, "429", lane="lane", sent_at=now)
        case "began":
            pool.began(key, name, "lane" if number % 2 else "")
        case "ended":
            pool.ended(key, name, "lane" if number % 2 else "")
        case "proved":
            pool.proved(key, lane="lane", sent_at=now)
        case "remove":
            pool.remove(key)
        case "reload":
            former, pool = pool, pool_of(clock, *(member.record for member in pool))
            pool.inherit(former)
        case _:
            clock.jump(3)
    return pool
