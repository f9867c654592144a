"""What was written later counts, whatever the wall clock said meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authpool.accounts.account import Account, Token, fingerprint
from authpool.accounts.events import AccountEvent
from authpool.store.folder.store import FolderStore
from authpool.store.folder.trail_files import NAME, TrailFiles
from authpool.store.trail_index import TrailIndex
from support.clock import FakeClock
from support.trail import AuditTrail

HOUR = 3600


def account(token: str, generation: int) -> Account:
    return Account(pool="p", name="alice", generation=generation, token=Token(refresh_token=token))


async def is_spent(index: TrailIndex, token: str) -> bool:
    await index.catch_up()
    found = index.known(fingerprint(token))
    return found is not None and found.exchanged_at is not None


def exchange(trail: AuditTrail, spent: str, newest: str, generation: int) -> None:
    trail.record(AccountEvent(kind="rotated", account=account(newest, generation), replaced=fingerprint(spent)))


@pytest.mark.parametrize("reader", ("was there", "starts now"))
async def test_what_is_enabled_by_force_counts_though_the_clock_was_put_back(
    tmp_path: Path, clock: FakeClock, reader: str
) -> None:
    """An operator's word is not undone because the wall clock was an hour fast when the token was exchanged."""
    trail, index = AuditTrail(tmp_path, clock, "command line"), TrailIndex(FolderStore(tmp_path / "accounts"))
    exchange(trail, "r1", "r2", generation=2)
    if reader == "was there":
        assert await is_spent(index, "r1")
    clock.jump(-HOUR)
    trail.record(AccountEvent(kind="enabled", account=account("r1", 1)))
    assert not await is_spent(index, "r1")


async def test_an_older_trail_tells_nothing_new_though_the_clock_was_put_back(tmp_path: Path, clock: FakeClock) -> None:
    """By the clock, what stands in the trail that was put back is newer than what was exchanged since."""
    trail, index = AuditTrail(tmp_path, clock, "gateway"), TrailIndex(FolderStore(tmp_path / "accounts"))
    trail.record(AccountEvent(kind="added", account=account("r1", 1)))
    older = (tmp_path / NAME).read_bytes()
    assert not await is_spent(index, "r1")
    clock.jump(-HOUR)
    exchange(trail, "r1", "r2", generation=2)
    assert await is_spent(index, "r1")
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).write_bytes(older)
    assert await is_spent(index, "r1")
    assert [entry.event for entry in index.latest()] == ["added", "refreshed"]


@pytest.mark.parametrize("reader", ("was there", "starts now"))
@pytest.mark.parametrize("put_back", (0, HOUR))
async def test_a_line_written_late_tells_of_an_earlier_time(
    tmp_path: Path, clock: FakeClock, reader: str, put_back: int
) -> None:
    """One process could not write that it was given r2, another exchanged r2; then the first one can write again."""
    first, second = (AuditTrail(tmp_path, clock, kind) for kind in ("gateway", "command line"))
    index = TrailIndex(FolderStore(tmp_path / "accounts"))
    with unwritable(tmp_path):
        exchange(first, "r1", "r2", generation=2)
    clock.jump(-put_back)
    exchange(second, "r2", "r3", generation=3)
    if reader == "was there":
        assert await is_spent(index, "r2")
    first.files.flush()
    assert await is_spent(index, "r2")
    assert await is_spent(index, "r1")
    assert not await is_spent(index, "r3")


async def test_a_line_written_late_counts_where_it_tells_of_the_newest(tmp_path: Path, clock: FakeClock) -> None:
    """An account that was added again with a token that it exchanged once: the entry is no less true for being late."""
    trail, index = AuditTrail(tmp_path, clock, "gateway"), TrailIndex(FolderStore(tmp_path / "accounts"))
    exchange(trail, "r1", "r2", generation=2)
    with unwritable(tmp_path):
        trail.record(AccountEvent(kind="readded", account=account("r1", 3)))
    assert await is_spent(index, "r1")
    trail.files.flush()
    assert not await is_spent(index, "r1")
    assert [entry.late for entry in TrailFiles(tmp_path).newest(None)] == [False, True]


@contextmanager
def unwritable(home: Path) -> Iterator[None]:
    """The trail can't be written for a while: its place is taken."""
    file, aside = home / NAME, home / "aside"
    if file.exists():
        file.rename(aside)
    file.mkdir()
    yield
    file.rmdir()
    if aside.exists():
        aside.rename(file)
