"""Following a folder: told by the system where it tells, by looking where it does not, and nothing missed."""

# ruff: noqa: ASYNC240  a test may look at a local file wherever it is

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import StoreUnavailableError
from authpool.store import Record
from authpool.store.folder import file_index
from authpool.store.folder.folder_watch import FolderWatch, Notifier, silent_type
from authpool.store.folder.following import PIECE
from authpool.store.folder.store import FolderStore
from support.file_operations import CountingFiles

POLLED = "are noticed by looking"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An accounts folder with one pool and one account."""
    put(tmp_path / "accounts" / "google", "alice")
    return tmp_path / "accounts"


def put(pool: Path, name: str, text: str = "generation = 1") -> Path:
    pool.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = pool / f"{name}.toml"
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def key(name: str, pool: str = "google") -> AccountKey:
    return AccountKey.of(pool, name)


class Following:
    """A store that somebody follows, and what it told so far."""

    def __init__(self, store: FolderStore) -> None:
        self.store = store
        self.told: dict[AccountKey, Record | None] = {}

    async def step(self) -> None:
        await self.store.wait_for_changes()
        self.told |= await self.store.changes()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await self.step()

    def generation(self, name: str, pool: str = "google") -> int:
        return getattr(self.told.get(key(name, pool)), "generation", 0)


@asynccontextmanager
async def following(
    folder: Path,
    *pools: str,
    files: CountingFiles | None = None,
    watch: Callable[[Path], FolderWatch] | None = FolderWatch,
    watched: bool = True,
) -> AsyncIterator[Following]:
    """Follow these pools, once it has come to being told, or not."""
    store = FolderStore(folder, files=files, watch=watch)
    await store.load(pools or ["google"])
    one = Following(store)
    try:
        await one.step()
        await one.step()
        assert store.following.watched is watched
        one.told.clear()
        yield one
    finally:
        await store.aclose()


async def test_what_changes_is_looked_at_and_nothing_else(folder: Path) -> None:
    """New, edited in place, renamed into place, removed: of more accounts than are compared in passing."""
    for number in range(3 * PIECE):
        put(folder / "google", f"user{number}")
    files = CountingFiles()
    async with following(folder, files=files) as one:
        await one.until(lambda: not any(pool.undecided for pool in one.store._pools.values()))
        files.reads.clear()
        put(folder / "google", "user1", "generation = 2")
        put(folder / "google", "new.of-an-editor", "generation = 3").rename(folder / "google" / "user2.toml")
        put(folder / "google", "bob", "generation = 4")
        (folder / "google" / "user3.toml").unlink()
        await one.until(lambda: len(one.told) == 4)
        generations = {name: one.generation(name) for name in ("user1", "user2", "bob", "user3")}
        assert generations == {"user1": 2, "user2": 3, "bob": 4, "user3": 0}
        assert one.told[key("user3")] is None
        assert set(files.reads) <= {"user1.toml", "user2.toml", "bob.toml", "new.of-an-editor.toml"}


async def test_a_pools_folder_that_comes_later_is_followed(folder: Path) -> None:
    """From its first account on, and those that come after it."""
    async with following(folder, "google", "late") as one:
        put(folder / "late", "carol", "generation = 1")
        await one.until(lambda: one.generation("carol", "late") == 1)
        for number in range(2, 5):
            put(folder / "late", "carol", f"generation = {number}")
            await one.until(lambda number=number: one.generation("carol", "late") == number)  # type: ignore[misc]
        assert one.store.following.watched


async def test_accounts_that_come_later_at_all_are_followed(tmp_path: Path) -> None:
    """A home without the folder, as after `authpool init`."""
    async with following(tmp_path / "accounts", watched=False) as one:
        put(tmp_path / "accounts" / "google", "carol", "generation = 2")
        await one.until(lambda: one.generation("carol") == 2)
        await one.until(lambda: one.store.following.watched)


@pytest.mark.parametrize("part", ("google", "."))
async def test_a_folder_moved_away_and_back_is_followed_again(folder: Path, part: str) -> None:
    """While it is away that is told, and not as a removal."""
    moved = (folder / part).resolve()
    away = moved.with_name("away")
    async with following(folder) as one:
        moved.rename(away)
        with pytest.raises(StoreUnavailableError, match="google is gone"):
            await one.until(lambda: False)
        put(away if part == "google" else away / "google", "alice", "generation = 2")
        away.rename(moved)
        await one.until(lambda: one.generation("alice") == 2)
        await one.until(lambda: one.store.following.watched)
        put(folder / "google", "alice", "generation = 3")
        await one.until(lambda: one.generation("alice") == 3)
        assert None not in one.told.values()


async def test_another_folder_in_its_place_is_followed(folder: Path) -> None:
    """Somebody put back a backup: what was watched lies elsewhere now."""
    put(folder.with_name("backup") / "google", "alice", "generation = 5")
    async with following(folder) as one:
        folder.rename(folder.with_name("former"))
        folder.with_name("backup").rename(folder)
        await one.until(lambda: one.generation("alice") == 5)
        put(folder / "google", "alice", "generation = 6")
        await one.until(lambda: one.generation("alice") == 6)


async def test_what_is_written_under_another_name_is_noticed(folder: Path) -> None:
    """A hard link: the system tells of the name that was written to, which lies elsewhere."""
    put(folder / "google", "alice")
    elsewhere = folder.with_name("elsewhere.toml")
    os.link(folder / "google" / "alice.toml", elsewhere)
    async with following(folder) as one:
        elsewhere.write_text("generation = 9")
        await one.until(lambda: one.generation("alice") == 9)


# --- where the system does not tell


class Deaf:
    """Tells nothing, but of the file it is tested with when it `pretends`."""

    def __init__(self, root: str, *, pretends: bool) -> None:
        self._root = Path(root)
        self._pretends = pretends
        self._tested = False
        self._closed = threading.Event()

    def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: threading.Event | None) -> object:
        if self._pretends and not self._tested:
            self._tested = True
            return {(1, _EndsAsAny("x"))}
        self._closed.wait(timeout_ms / 1000)
        return "timeout"

    def close(self) -> None:
        self._closed.set()


class _EndsAsAny(str):
    __slots__ = ()

    def endswith(self, *_: object) -> bool:
        return True


def full(root: str) -> Notifier:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("watch", "why"),
    (
        (partial(FolderWatch, notify=full), "No space left on device"),
        (partial(FolderWatch, notify=partial(Deaf, pretends=False)), "does not tell of a file"),
        (partial(FolderWatch, silent_type=lambda _: "nfs4"), "it lies on nfs4"),
    ),
)
async def test_where_the_system_does_not_tell_it_is_looked_at(
    folder: Path, watch: Callable[[Path], FolderWatch], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That is said once, with the reason, and changes are noticed all the same."""
    caplog.set_level("INFO")
    async with following(folder, watch=watch, watched=False) as one:
        for generation in (2, 3, 4):
            put(folder / "google", "alice", f"generation = {generation}")
            await one.until(lambda generation=generation: one.generation("alice") == generation)  # type: ignore[misc]
    (line,) = [message for message in caplog.messages if POLLED in message]
    assert why in line


async def test_a_change_that_was_not_told_is_found_and_ends_the_trust(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an overflow of the system's queue: comparing in pieces finds it, and all is looked at from then on."""
    monkeypatch.setattr(file_index, "OLD_NS", 0)
    caplog.set_level("INFO")
    watch = partial(FolderWatch, notify=partial(Deaf, pretends=True))
    async with following(folder, watch=watch) as one:
        put(folder / "google", "alice", "generation = 2")
        await one.until(lambda: one.generation("alice") == 2)
        await one.until(lambda: not one.store.following.watched)
    assert [POLLED in message for message in caplog.messages].count(True) == 1
    assert "did not tell of a change" in caplog.text


async def test_nothing_is_left_behind(folder: Path) -> None:
    """Closed, it has no thread and no watch any more, and can still be read."""
    before = set(threading.enumerate())
    async with following(folder) as one:
        listening = [thread for thread in threading.enumerate() if thread.name == "authpool watch"]
        assert listening
    for thread in set(listening) - before:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
    assert (await one.store.read(key("alice"))).name == "alice"


def test_a_disk_of_this_machine_is_not_silent(tmp_path: Path) -> None:
    """Where tests run, the system tells."""
    assert silent_type(tmp_path) is None
    assert silent_type(tmp_path / "nowhere") is None


async def test_a_folder_that_was_away_for_a_moment_is_looked_at(folder: Path) -> None:
    """Between two looks: what was written to it meanwhile was not told."""
    for number in range(3 * PIECE):
        put(folder / "google", f"user{number}")
    async with following(folder) as one:
        for generation in (2, 3):
            away = (folder / "google").rename(folder.with_name("away"))
            for number in range(0, 3 * PIECE, 50):
                put(away, f"user{number}", f"generation = {generation}")
            away.rename(folder / "google")
            await one.until(
                lambda generation=generation: all(  # type: ignore[misc]
                    one.generation(f"user{number}") == generation for number in range(0, 3 * PIECE, 50)
                )
            )
        assert None not in one.told.values()
