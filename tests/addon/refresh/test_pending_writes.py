"""What the store would not take is kept, and written as soon as it can be."""

import asyncio
import errno
import gc
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from authpool.accounts.account import Account, Token
from authpool.refresh.conditional_change import if_still
from authpool.refresh.held_account import HeldAccount
from authpool.refresh.pending_writes import PendingWrites
from support.clock import FakeClock
from support.transport import ALICE, Rig

NEW = Token(access_token="new", refresh_token="new")


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Rig:
    """A folder that takes nothing until `failing.error` is None."""
    rig = Rig(tmp_path / "accounts", clock)
    rig.failing.error = OSError(errno.ENOSPC, "No space left on device")
    return rig


@pytest.fixture
async def late(rig: Rig, clock: FakeClock) -> PendingWrites:
    """A writer that has Alice's new token, which the store did not take, and holds her lock."""
    account = await rig.add()
    late = PendingWrites(clock, Random(0))
    async with AsyncExitStack() as stack:
        hold = await stack.enter_async_context(rig.store.hold(ALICE))
        await hold.read()
        held = HeldAccount(hold=hold, stack=stack)
        change = if_still(account, lambda now: now.with_token(NEW))
        late.write_later(account.with_token(NEW), change, held, granted=True)
    return late


async def is_locked(rig: Rig) -> bool:
    """Whether somebody else would have to wait for Alice."""
    try:
        async with asyncio.timeout(0.1), rig.operator.hold(ALICE):
            return False
    except TimeoutError:
        return True


async def test_it_keeps_account_and_lock_until_it_is_written(late: PendingWrites, rig: Rig) -> None:
    """However long that takes."""
    await rig.clock.advance(3600)
    kept = late.get(ALICE)
    assert kept is not None
    assert kept.token == NEW
    assert await is_locked(rig)
    rig.failing.error = None
    await rig.clock.advance(8)
    assert late.get(ALICE) is None
    assert rig.stored().token == NEW
    assert not await is_locked(rig)


async def test_what_the_operator_changed_meanwhile_is_kept(late: PendingWrites, rig: Rig) -> None:
    """The change is made to what is there when it can be written."""
    await rig.operator.update(ALICE, lambda now: now and now.with_paused(1))
    rig.failing.error = None
    await rig.clock.advance(1)
    assert rig.stored().proxy_disabled
    assert rig.stored().token == NEW


async def test_a_re_added_account_is_left_alone(late: PendingWrites, rig: Rig) -> None:
    """Theirs counts, and the lock is free."""
    added = await rig.add()
    await rig.clock.advance(1)
    assert late.get(ALICE) is None
    assert rig.stored() == added
    assert not await is_locked(rig)


async def test_a_removed_account_is_given_up(late: PendingWrites, rig: Rig) -> None:
    """The second time it is looked for."""
    await rig.operator.update(ALICE, lambda _: None)
    await rig.clock.advance(0.3)
    assert late.get(ALICE) is not None
    await rig.clock.advance(8)
    assert late.get(ALICE) is None
    assert not (rig.folder / "pool" / "alice.toml").exists()


async def test_a_file_that_is_away_for_a_moment_is_waited_for(late: PendingWrites, rig: Rig) -> None:
    """Some editors save by renaming."""
    path = rig.folder / "pool" / "alice.toml"
    path.rename(path.with_suffix(".away"))
    await rig.clock.advance(0.3)
    path.with_suffix(".away").rename(path)
    rig.failing.error = None
    await rig.clock.advance(8)
    assert rig.stored().token == NEW


@pytest.mark.parametrize("error", (RuntimeError("cannot schedule new futures"), ValueError("no")))
async def test_no_error_ends_it(late: PendingWrites, rig: Rig, error: Exception) -> None:
    """This is the only place where the token is."""
    rig.failing.error = error
    await rig.clock.advance(60)
    assert late.get(ALICE) is not None
    rig.failing.error = None
    await rig.clock.advance(8)
    assert rig.stored().token == NEW


async def test_closing_tries_once_more(late: PendingWrites, rig: Rig) -> None:
    """Without waiting for the next turn."""
    rig.failing.error = None
    await late.aclose()
    assert rig.stored().token == NEW
    assert not await is_locked(rig)


async def test_closing_lets_go_of_what_it_took_over_just_now(rig: Rig, clock: FakeClock) -> None:
    """However soon it is cancelled: this process would hold the kernel's lock, and nobody would know of it."""
    account = await rig.add()
    late = PendingWrites(clock, Random(0))
    gc.disable()  # it would let go, some time
    try:
        async with AsyncExitStack() as stack:
            hold = await stack.enter_async_context(rig.store.hold(ALICE))
            held = HeldAccount(hold=hold, stack=stack)
            late.write_later(account, lambda now: now, held, granted=True)
            (writing,) = late._tasks
            writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert not await is_locked(rig)
    finally:
        gc.enable()


async def test_closing_says_what_is_lost(late: PendingWrites, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """By name, never by token; and nothing is left running."""
    await late.aclose()
    assert "pool/alice could never be written and is lost now: re-add it" in caplog.text
    assert rig.clock.sleepers == 0
    assert not await is_locked(rig)


def test_an_account_it_does_not_hold(rig: Rig, clock: FakeClock) -> None:
    """Nothing is known of it."""
    assert PendingWrites(clock, Random(0)).get(replace(Account(pool="pool", name="bob")).key) is None
