"""The pool: states, what moves them, and that the rotation always holds exactly those that can serve."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.account import Account, AccountKey, BrokenAccount, Token
from authpool.config import HostPattern, PoolConfig
from authpool.pool import Pool, State
from authpool.rotation import RotationRequest
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


type Step = tuple[str, int]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "pause", "disable", "break", "cool", "remove", "later"]), st.integers(0, 4))
    )
)
def test_the_rotation_holds_exactly_those_that_can_serve(steps: list[Step]) -> None:
    """After any history, who is chosen is who is ready, and evenly so."""
    clock = FakeClock()
    pool = pool_of(clock)
    for action, number in steps:
        name = f"a{number}"
        match action:
            case "put":
                pool.put(account(name))
            case "pause":
                pool.put(account(name, proxy_disabled=True))
            case "disable":
                pool.put(account(name, disabled=True))
            case "break":
                pool.put(BrokenAccount(pool="p", name=name, reason="cut in half"))
            case "cool":
                pool.cool(AccountKey.of("p", name), clock.time() + 5, "")
            case "remove":
                pool.remove(AccountKey.of("p", name))
            case _:
                clock.jump(3)
    ready = {m.account.name for m in pool if m.state(clock.time()) is State.READY}
    served = Counter(m.account.name for m in (pool.choose(REQUEST) for _ in range(3 * len(ready))) if m)
    assert served == dict.fromkeys(ready, 3)
    assert pool.counts()[State.READY] == len(ready)
