"""What the world model found, told as plain stories."""

import errno
from collections.abc import Iterator

import pytest

from authpool.accounts.account import Account, AccountKey
from authpool.refresh.outcome import Unavailable
from support.crashing_process import CrashingProcess
from support.world import World, key_of

ALICE = key_of("alice")
TWIN = AccountKey.of("twin", "alice")


@pytest.fixture
def world() -> Iterator[World]:
    """Alice, in two processes that are no gateways."""
    world = World({})
    world.add("alice")
    for number in range(2):
        world.start(number, gateway=False)
    yield world
    world.end()


def refresh(world: World, process: CrashingProcess, key: AccountKey) -> None:
    """By force, and with whatever answer the provider gives."""
    world.run(process.load())
    world.take_off(process, key, force=True)
    for _ in range(3):
        for flying in list(world.air):
            world.land(flying, "answer")
        world.run(seconds=4.5)
    world.check()


def test_a_move_makes_no_spent_token_good_again(world: World) -> None:
    """An old copy is put back and moved to another pool: nobody presents what it holds there either."""
    world.back_up()
    refresh(world, world.processes[0], ALICE)
    world.restore(ALICE, trail=False, clean=False, noticed=False)
    world.move(ALICE, "twin", None, 0)
    assert world.stored(ALICE) is None
    asked = len(world.provider.handled)
    refresh(world, world.processes[1], TWIN)
    assert len(world.provider.handled) == asked
    moved = world.stored(TWIN)
    assert moved is not None
    assert (moved.disabled_reason or "").startswith("restored_copy:")


def test_a_move_of_a_copy_takes_nothing_from_whom_it_was_copied(world: World) -> None:
    """The copy is held back at its new address as well, and the first goes on."""
    copied = AccountKey.of("pool", "copy")
    world.copy(ALICE, copied, noticed=False)
    world.move(copied, "twin", None, 0)
    refresh(world, world.processes[0], ALICE)
    first = world.stored(ALICE)
    assert first is not None
    assert world.provider.is_current(first.token.refresh_token or "")
    assert not first.disabled
    assert [handled.error for handled in world.provider.handled] == [None]


def test_who_is_moved_goes_on_where_it_was_when_the_move_is_killed(world: World) -> None:
    """Whichever address comes first: the new one is held back, and so must not hold the old one back."""
    world.copy(ALICE, TWIN, noticed=False)  # by hand, so the trail knows of its old address only
    world.remove(ALICE, by_hand=True)
    world.move(TWIN, "pool", "after rename", 0)
    assert world.stored(TWIN) is not None
    assert world.stored(ALICE) is not None, "the move was cut off between its two addresses"
    world.calm_down()
    refresh(world, world.processes[1], TWIN)
    moved = world.stored(TWIN)
    assert moved is not None
    assert world.provider.is_current(moved.token.refresh_token or "")
    assert [handled.error for handled in world.provider.handled] == [None]


def test_a_copy_that_asks_already_is_let_finish(world: World) -> None:
    """Where the first one is put back while the copy's POST is in the air, it waits for what comes of that."""
    world.back_up()
    world.copy(ALICE, TWIN, noticed=False)
    world.remove(ALICE, by_hand=True)
    world.run(world.processes[0].load())
    world.take_off(world.processes[0], TWIN, force=True)
    assert [flying.key for flying in world.air] == [TWIN]
    world.restore(ALICE, trail=False, clean=False, noticed=False)
    refused = world.take_off(world.processes[1], ALICE, force=True)
    assert [flying.key for flying in world.air] == [TWIN]
    assert refused is not None
    assert isinstance(refused.result(), Unavailable)
    world.check()


def test_an_intent_that_was_copied_is_no_intent_of_the_copy(world: World) -> None:
    """A copy made while the first one asked does not come before it."""
    world.take_off(world.processes[0], ALICE, force=True)
    world.copy(ALICE, TWIN, noticed=False)
    world.land(world.air[0], "not_sent")
    copied, first = world.stored(TWIN), world.stored(ALICE)
    assert copied is not None
    assert first is not None
    assert (copied.pending_refresh is not None, first.pending_refresh is not None) == (True, False)
    world.run(world.processes[1].load())
    world.take_off(world.processes[1], TWIN, force=True)
    assert world.air == []
    refresh(world, world.processes[1], ALICE)


def test_an_intent_that_was_erased_is_written_again_before_the_next_post(world: World) -> None:
    """An editor saved the record without it while the answer was lost; `check` looks at what is on disk."""
    world.open_editor(ALICE)
    world.take_off(world.processes[0], ALICE, force=True)
    world.save_editor(ALICE, noticed=False)
    saved = world.stored(ALICE)
    assert saved is not None
    assert saved.pending_refresh is None
    world.land(world.air[0], "lost_before")
    world.run(seconds=1.5)
    assert len(world.air) == 1, "the same token is presented again"
    world.check()


def test_who_is_paused_half_way_through_a_move_stays_paused(world: World) -> None:
    """At either address: the move goes on later, and undoes no switch."""
    world.move(ALICE, "twin", "after rename", 0)
    world.edit(TWIN, "pause")
    world.move(ALICE, "twin", None, 0)
    moved = world.stored(TWIN)
    assert moved is not None
    assert world.stored(ALICE) is None
    assert moved.proxy_disabled
    world.check()


def test_who_was_moved_comes_before_a_copy_at_the_old_address(world: World) -> None:
    """The move was killed when only its mark was left, and somebody copied the file back, mark and all."""
    world.move(ALICE, "twin", "fsync", 2)
    assert world.stored(ALICE) is None
    world.run(world.processes[0].load())
    world.take_off(world.processes[0], TWIN, force=True)
    world.copy(TWIN, ALICE, noticed=False)
    world.run(world.processes[1].load())
    world.take_off(world.processes[1], ALICE, force=True)
    assert [flying.key for flying in world.air] == [TWIN]
    world.check()


def test_who_was_moved_and_went_on_is_not_overwritten_by_an_old_copy(world: World) -> None:
    """What is put back at the old address looks like a move that was cut off; the newer pair stays."""
    world.back_up()
    world.move(ALICE, "twin", "fsync", 2)
    refresh(world, world.processes[0], TWIN)
    world.restore(ALICE, trail=False, clean=False, noticed=False)
    newest = world.stored(TWIN)
    world.move(ALICE, "twin", None, 0)
    moved = world.stored(TWIN)
    assert world.stored(ALICE) is None
    assert moved is not None
    assert newest is not None
    assert moved.token == newest.token
    refresh(world, world.processes[1], TWIN)


def test_a_copy_whose_answer_was_lost_does_not_ask_again_beside_the_first(world: World) -> None:
    """Both were put back by hand meanwhile, as they were before it asked."""
    world.copy(ALICE, TWIN, noticed=False)
    world.back_up()
    world.remove(ALICE, by_hand=True)
    world.run(world.processes[0].load())
    world.take_off(world.processes[0], TWIN, force=True)
    (asking,) = world.air
    world.restore(None, trail=False, clean=False, noticed=False)
    world.land(asking, "lost_before")
    world.run(world.processes[1].load(), seconds=0.0)
    world.take_off(world.processes[1], ALICE, force=True)
    world.run(seconds=1.5)
    assert [flying.key for flying in world.air] == [ALICE]
    world.check()


def test_two_moves_to_and_fro_that_were_killed_leave_one_that_goes_on(world: World) -> None:
    """The first left its mark, and the second came no further than its copy: each names the other."""
    world.move(ALICE, "twin", "half a write", 2)
    world.move(TWIN, "pool", "after rename", 0)
    assert world.stored(ALICE) is not None
    assert world.stored(TWIN) is not None
    refresh(world, world.processes[0], ALICE)
    refresh(world, world.processes[1], TWIN)
    assert [handled.error for handled in world.provider.handled] == [None]


def test_a_line_that_is_written_late_makes_no_spent_token_good_again(world: World) -> None:
    """The trail could not be written when the token came; meanwhile another process exchanged that token."""
    first, second = world.processes[:2]
    world.take_off(first, ALICE, force=True)
    world.disk.trouble = errno.ENOSPC
    world.land(world.air[0], "answer")
    world.disk.trouble = None
    world.run(seconds=65)  # the pair is written, and the trail waits for the next look at it
    given = world.stored(ALICE)
    world.copy(ALICE, TWIN, noticed=False)
    refresh(world, second, ALICE)
    first.flush_trail()
    asked = len(world.provider.handled)
    for process in (first, second):
        refresh(world, process, TWIN)
    assert given is not None
    assert _holds(world, TWIN, given)
    assert len(world.provider.handled) == asked


@pytest.mark.parametrize("by_hand", (True, False))
def test_what_was_exchanged_for_an_account_that_is_gone_is_not_presented_again(world: World, *, by_hand: bool) -> None:
    """It was removed while the provider was asked, and a backup of before brings it back."""
    world.back_up()
    world.take_off(world.processes[0], ALICE, force=True)
    world.remove(ALICE, by_hand=by_hand)
    world.land(world.air[0], "answer")
    world.run(seconds=1.0)  # so long it might be an editor's saving
    world.restore(ALICE, trail=False, clean=False, noticed=False)
    asked = len(world.provider.handled)
    for process in world.processes[:2]:
        refresh(world, process, ALICE)
    assert len(world.provider.handled) == asked
    restored = world.stored(ALICE)
    assert restored is not None
    assert (restored.disabled_reason or "").startswith("restored_copy:")


def test_a_pair_takes_the_place_of_an_old_copy_that_this_process_never_saw(world: World) -> None:
    """Only the other process knows of the token that an editor saves in mid-flight, over the one that is presented."""
    first, second = world.processes[:2]
    world.open_editor(ALICE)
    refresh(world, second, ALICE)
    world.run(first.load())
    world.save_editor(ALICE, noticed=False)
    world.run(second.follow())
    refresh(world, second, ALICE)
    world.open_editor(ALICE)
    refresh(world, second, ALICE)
    world.run(first.load())
    world.take_off(first, ALICE, force=True)
    world.save_editor(ALICE, noticed=False)
    for flying in list(world.air):
        world.land(flying, "answer")
    world.run(seconds=2.0)
    world.check()
    kept = world.stored(ALICE)
    assert kept is not None
    assert world.provider.is_current(kept.token.refresh_token or "")
    assert not kept.disabled


def _holds(world: World, key: AccountKey, given: Account) -> bool:
    stored = world.stored(key)
    return stored is not None and stored.token.refresh_token == given.token.refresh_token
