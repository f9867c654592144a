"""Telling a dead client from dead accounts."""

import pytest

from authpool.accounts.account import Account, AccountKey
from authpool.errors import StoreUnavailableError
from authpool.refresh.client_watch import ACCEPTED_SECONDS, FAULT_SECONDS, ClientWatch
from authpool.store import ClientChange
from authpool.store.client_record import (
    ACCOUNTS,
    WINDOW_SECONDS,
    ClientRecord,
    Rejection,
    broken_record,
    client_from_document,
    document_from_client,
)
from support.clock import FakeClock
from support.outage import MemoryStore

NOW = 1_700_000_000


def key(number: int) -> AccountKey:
    return AccountKey.of("pool", f"user{number}")


def rejection(number: int, at: int = NOW) -> Rejection:
    return Rejection(account=key(number), fingerprint="00000000", at=at)


def dead(number: int, at: int | None = NOW, reason: str = "invalid_grant: x") -> Account:
    return Account(pool="pool", name=f"user{number}", disabled=True, disabled_at=at, disabled_reason=reason)


# --- the record -----------------------------------------------------------------------------------------------


def record_of(*numbers: int, at: int = NOW) -> ClientRecord:
    record = ClientRecord(client="c")
    for number in numbers:
        record = record.rejected(rejection(number, at), ())
    return record


def test_three_accounts_may_be_dead_and_the_fourth_is_a_storm() -> None:
    """Which is noted, and nobody counts from there on."""
    assert not record_of(1, 2, 3).storm
    storm = record_of(1, 2, 3, 4)
    assert storm.storm
    assert [one.account for one in storm.rejections] == [key(1), key(2), key(3)]
    assert storm.rejected(rejection(5), ()).storm
    assert ACCOUNTS == 4


def test_one_account_again_and_again_is_none() -> None:
    """It is different accounts that tell on the client."""
    assert not record_of(*[1] * 50).storm
    assert not record_of(1, 2, 3).would_storm(rejection(3), ())


@pytest.mark.parametrize("at", (NOW - 86400, NOW, NOW + 86400))
def test_the_clock_plays_no_part(at: int) -> None:
    """However long ago, or ahead, by whichever clock: without a success in between they count."""
    assert record_of(1, 2, 3, at=at).would_storm(rejection(4), ())


def test_a_success_clears_it() -> None:
    """Whatever is rejected next is an account's own fault; an older clock's success does not bring old ones back."""
    record = record_of(1, 2, 3, 4).accepted(NOW + 10)
    assert not record.in_trouble
    assert not record.would_storm(rejection(9), [dead(1), dead(2), dead(3)])
    assert record.accepted(NOW).accepted_at == NOW + 10


@pytest.mark.parametrize(
    ("account", "counts"),
    (
        (dead(1), True),
        (dead(1, NOW - int(WINDOW_SECONDS)), True),
        (dead(1, NOW - int(WINDOW_SECONDS) - 1), False),
        (dead(1, reason="rotation_lost: an answer never reached us"), True),
        (dead(1, reason="by hand"), False),
        (dead(1, None), False),
        (dead(9), False),
    ),
    ids=("just now", "in the window", "before it", "lost", "an operator's", "nobody knows when", "itself"),
)
def test_what_the_store_alone_says_counts_for_a_while(account: Account, *, counts: bool) -> None:
    """It was disabled by hand, or by an older version: not noted here."""
    assert record_of(2, 3).would_storm(rejection(9), [account]) is counts


def test_accounts_are_counted_once() -> None:
    """Noted and disabled are the same account."""
    assert not record_of(1, 2).would_storm(rejection(9), [dead(1), dead(2)])


def test_a_record_and_its_document() -> None:
    """There and back; what is unknown survives."""
    record = record_of(1, 2, 3).with_storm(NOW, "p", "why")
    document = document_from_client(record) | {"note": "mine", "table": {"a": 1}}
    again = client_from_document(document)
    assert again.extra == {"note": "mine", "table": {"a": 1}}
    assert document_from_client(again) == document
    assert client_from_document(document_from_client(record)) == record


@pytest.mark.parametrize(
    "document",
    (
        {},
        {"client": 7},
        {"client": "c", "version": 2},
        {"client": "c", "rejections": [7]},
        {"client": "c", "pools": [1]},
    ),
)
def test_what_is_no_record(document: dict[str, object]) -> None:
    """It is told from one; and what stands in its place is a storm."""
    with pytest.raises(ValueError, match=r"."):
        client_from_document(document)
    assert broken_record("c").storm


# --- the watch ------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(())


async def storm(watch: ClientWatch, client: str = "c") -> None:
    told = [await watch.rejected(client, rejection(number), ()) for number in range(ACCOUNTS + 1)]
    assert told == [False] * (ACCOUNTS - 1) + [True, True]


async def test_all_processes_count_together(store: MemoryStore, clock: FakeClock) -> None:
    """Each hears what the others noted, when it matters."""
    watches = [ClientWatch(store, clock) for _ in range(3)]
    told = [await watches[number % 3].rejected("c", rejection(number), ()) for number in range(6)]
    assert told == [False] * 3 + [True] * 3
    assert not await watches[0].rejected("d", rejection(1), ())


async def test_forgetting_ends_no_storm(store: MemoryStore, clock: FakeClock) -> None:
    """After a change of the configuration the client is asked at once; what stands, stands, and is shown."""
    watch = ClientWatch(store, clock)
    await storm(watch)
    await watch.meet_storm("c", "pool", "why")
    watch.blame("c", "pool", "why", storm=True)
    watch.forget()
    assert watch.held_back("c", "pool") is None
    assert watch.fault_of("pool") == "why"
    assert watch.fault_of("another") is None
    assert watch.fault_of("another", ["c"]) == "why"
    assert await watch.rejected("c", rejection(1), ())


@pytest.mark.parametrize("how", ("accepted", "end_storm"))
async def test_it_ends_for_every_process(how: str, store: MemoryStore, clock: FakeClock) -> None:
    """By a success, or somebody's word."""
    one, other = ClientWatch(store, clock), ClientWatch(store, clock)
    await storm(one)
    await other.recall()
    one.blame("c", "pool", "why", storm=True)
    assert other.fault_of("x", ["c"]) is not None
    assert await getattr(other, how)("c")
    await one.recall()
    assert one.fault_of("pool", ["c"]) is other.fault_of("pool", ["c"]) is None
    assert not await one.rejected("c", rejection(9), ())


class ForgetfulStore(MemoryStore):
    """Loses what it knew of clients when told to, or does not answer."""

    down = False

    async def update_client(self, client: str, change: ClientChange) -> ClientRecord:
        if self.down:
            raise StoreUnavailableError("down")
        return await super().update_client(client, change)

    def lose(self) -> None:
        self._clients.clear()


async def test_a_storm_that_the_store_lost_is_put_back(clock: FakeClock) -> None:
    """By whoever knew of it."""
    store = ForgetfulStore(())
    watch = ClientWatch(store, clock)
    await storm(watch)
    store.lose()
    await watch.recall()
    assert await watch.storms("c", rejection(9), ())
    assert await watch.rejected("c", rejection(9), ())
    assert await ClientWatch(store, clock).rejected("c", rejection(9), ())


async def test_a_success_that_can_not_be_noted_is_noted_by_the_next(clock: FakeClock) -> None:
    """It raises nothing: whoever was granted a token has it."""
    store = ForgetfulStore(())
    watch = ClientWatch(store, clock)
    await storm(watch)
    store.down = True
    await watch.accepted("c", key(1))
    store.down = False
    assert (await store.clients())["c"].storm
    await watch.accepted("c", key(1))
    assert not (await store.clients())["c"].in_trouble


async def test_a_client_that_was_just_accepted_for_another_account_is_not_at_fault(
    store: MemoryStore, clock: FakeClock
) -> None:
    """For ten minutes; that it was accepted for the same account tells nothing."""
    watch = ClientWatch(store, clock)
    watch.heard("c", key(1))
    assert not watch.accepted_for_others("c", key(1))
    assert watch.accepted_for_others("c", key(2))
    watch.heard("c", key(2))
    assert watch.accepted_for_others("c", key(1))
    assert not watch.accepted_for_others("d", key(3))
    clock.jump(86400)
    await clock.advance(ACCEPTED_SECONDS - 1)
    assert watch.accepted_for_others("c", key(3))
    await clock.advance(1)
    assert not watch.accepted_for_others("c", key(3))


async def test_a_client_at_fault_is_held_back_for_a_while(store: MemoryStore, clock: FakeClock) -> None:
    """Then it is asked again; blame that goes on is no news."""
    watch = ClientWatch(store, clock)
    assert watch.blame("c", "pool", "why")
    await clock.advance(FAULT_SECONDS - 1)
    assert watch.held_back("c", "pool") is not None
    assert watch.held_back("d", "pool") is None
    await clock.advance(1)
    assert watch.held_back("c", "pool") is None
    assert not watch.blame("c", "pool", "why")
    assert watch.fault_of("pool") == "why"
    assert watch.fault_of("other") is None


def test_pools_that_share_a_client_share_its_fault(store: MemoryStore, clock: FakeClock) -> None:
    """Whoever met it first, or last: each of them shows why it is held back, and it is news to each."""
    watch = ClientWatch(store, clock)
    assert watch.blame("c", "one", "why")
    assert watch.fault_of("two") is None
    assert watch.blame("c", "two", "why")
    assert watch.held_back("c", "three") is not None
    assert [watch.fault_of(pool) for pool in ("one", "two", "three")] == ["why"] * 3
    assert not watch.blame("c", "one", "why")
    assert watch.heard("c") is not None
    assert [watch.fault_of(pool) for pool in ("one", "two", "three")] == [None] * 3


def test_a_clock_put_back_ends_the_wait(store: MemoryStore, clock: FakeClock) -> None:
    """A wait can't be longer than it can have been set to."""
    watch = ClientWatch(store, clock)
    watch.blame("c", "pool", "why")
    clock.jump(-3600)
    assert watch.held_back("c", "pool") is None


async def test_in_a_storm_who_was_not_rejected_is_asked_at_a_pace(store: MemoryStore, clock: FakeClock) -> None:
    """The dead ones must not keep the one that lives from being asked, for its success ends the storm."""
    watch = ClientWatch(store, clock)
    dead, lives, other = [AccountKey.of("pool", name) for name in ("dead", "lives", "other")]
    watch.note_rejected("c", dead)
    watch.blame("c", "pool", "why", storm=True)
    assert watch.held_back("c", "pool", dead) is not None
    assert watch.held_back("c", "pool", lives) is None
    assert watch.held_back("c", "pool", other) is not None
    await clock.advance(2)
    assert watch.held_back("c", "pool", dead) is not None
    assert watch.held_back("c", "pool", other) is None
    watch.note_rejected("c", other)
    await clock.advance(2)
    assert watch.held_back("c", "pool", other) is not None
    assert watch.heard("c", lives) is not None
    assert watch.held_back("c", "pool", dead) is None
