"""What the world model found, told as plain stories."""

from collections.abc import Iterator

import pytest

from authpool.accounts.account import AccountKey
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
    try:
        world.calm_down()
        world.check()
        world.refresh_everything()
    finally:
        world.close()


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
