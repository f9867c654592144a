"""Telling a dead client from dead accounts."""

from authpool.account import AccountKey
from authpool.refresh.storm import ACCOUNTS, FAULT_SECONDS, WINDOW_SECONDS, ClientWatch

NOW = 1_700_000_000.0


def key(number: int) -> AccountKey:
    return AccountKey.of("pool", f"user{number}")


def rejections(watch: ClientWatch, count: int, *, client: str = "c", now: float = NOW) -> list[bool]:
    return [watch.rejected(client, key(number), now) for number in range(count)]


def test_several_accounts_at_once_are_a_storm() -> None:
    """The first few may be a coincidence."""
    assert rejections(ClientWatch(), ACCOUNTS + 1) == [False] * (ACCOUNTS - 1) + [True, True]


def test_one_account_again_and_again_is_none() -> None:
    """It is different accounts that tell on the client."""
    watch = ClientWatch()
    assert not any(watch.rejected("c", key(1), NOW + second) for second in range(50))


def test_clients_are_judged_apart() -> None:
    """Another client's trouble is its own."""
    watch = ClientWatch()
    rejections(watch, ACCOUNTS)
    assert rejections(watch, 1, client="d") == [False]


def test_a_success_in_between_clears_the_client() -> None:
    """Whatever is rejected next is an account's own fault."""
    watch = ClientWatch()
    rejections(watch, ACCOUNTS)
    assert watch.blame("c", "pool", "storm", NOW)
    fault = watch.accepted("c")
    assert fault is not None
    assert fault.detail == "storm"
    assert watch.accepted("c") is None
    assert rejections(watch, 1) == [False]


def test_the_window_moves_on() -> None:
    """Deaths that are spread over hours are no storm; nor are those from before the clock was put back."""
    for away in (WINDOW_SECONDS + 1, -3600):
        watch = ClientWatch()
        rejections(watch, ACCOUNTS - 1)
        assert not watch.rejected("c", key(9), NOW + away)


def test_a_client_at_fault_is_held_back_for_a_while() -> None:
    """Then it is asked again; blame that goes on is no news."""
    watch = ClientWatch()
    assert watch.blame("c", "pool", "why", NOW)
    assert watch.held_back("c", "pool", NOW + FAULT_SECONDS - 1) is not None
    assert watch.held_back("c", "pool", NOW + FAULT_SECONDS) is None
    assert watch.held_back("d", "pool", NOW) is None
    assert not watch.blame("c", "pool", "why", NOW + FAULT_SECONDS)
    assert watch.fault_of("pool") == "why"
    assert watch.fault_of("other") is None


def test_pools_that_share_a_client_share_its_fault() -> None:
    """Whoever met it first, or last: each of them shows why it is held back, and it is news to each."""
    watch = ClientWatch()
    assert watch.blame("c", "one", "why", NOW)
    assert watch.fault_of("two") is None
    assert watch.blame("c", "two", "why", NOW)
    assert watch.held_back("c", "three", NOW) is not None
    assert [watch.fault_of(pool) for pool in ("one", "two", "three")] == ["why"] * 3
    assert not watch.blame("c", "one", "why", NOW)
    assert watch.accepted("c") is not None
    assert [watch.fault_of(pool) for pool in ("one", "two", "three")] == [None] * 3


def test_a_clock_put_back_ends_the_wait() -> None:
    """A wait can't be longer than it can have been set to."""
    watch = ClientWatch()
    watch.blame("c", "pool", "why", NOW)
    assert watch.held_back("c", "pool", NOW - 3600) is None


def test_forgetting() -> None:
    """After a change of the configuration every client gets another chance."""
    watch = ClientWatch()
    rejections(watch, ACCOUNTS)
    watch.blame("c", "pool", "why", NOW)
    watch.forget()
    assert watch.held_back("c", "pool", NOW) is None
    assert watch.fault_of("pool") is None
    assert rejections(watch, 1) == [False]
