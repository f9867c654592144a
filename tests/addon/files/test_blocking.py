"""Blocking calls on threads of their own: what hangs there hangs alone, and is told."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey
from authpool.errors import StoreUnavailableError
from authpool.files.atomic_file import FileOperations, StrPath
from authpool.files.blocking import BlockingCalls
from authpool.store.folder.store import FolderStore
from support import store_process

ALICE = store_process.ALICE


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What hangs waits for this, and goes on at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


async def test_results_and_errors_reach_the_caller() -> None:
    """As from `asyncio.to_thread`."""
    run = BlockingCalls("test")
    assert await run(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await run(int, "x")
    assert await run(threading.current_thread) is not threading.main_thread()


async def test_no_more_threads_than_the_limit_and_none_for_nothing(release: threading.Event) -> None:
    """What finds no thread waits for one."""
    run = BlockingCalls("limit test", threads=3)
    running = [asyncio.ensure_future(run(release.wait)) for _ in range(9)]
    await asyncio.sleep(0)
    assert sum(thread.name == "authpool limit test" for thread in threading.enumerate()) == 3
    release.set()
    assert await asyncio.gather(*running) == [True] * 9


async def test_a_call_that_hangs_is_given_up(release: threading.Event) -> None:
    """Its thread counts as stuck; when all are, others are told at once; when they come back, all is well."""
    run = BlockingCalls("the disk", threads=2, seconds=0.02)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=r"the disk does not answer: a call took over 0\.02 s"):
            await run(release.wait)
    begun = threading.Event()
    with pytest.raises(StoreUnavailableError, match="the disk does not answer: 2 calls hang"):
        await run(begun.set)
    assert not begun.is_set()
    release.set()
    async with asyncio.timeout(30):
        while run._stuck:
            await asyncio.sleep(0.001)
    run._seconds = 5.0
    assert await run(int) == 0


async def test_a_call_that_was_given_up_before_it_began_never_begins(release: threading.Event) -> None:
    """Its caller has been told that nothing was done."""
    run = BlockingCalls("test", threads=1, seconds=0.02)
    hanging = asyncio.ensure_future(run(release.wait))
    await asyncio.sleep(0)
    begun = threading.Event()
    with pytest.raises(StoreUnavailableError):
        await run(begun.set)
    waiting = asyncio.ensure_future(run(begun.set))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(hanging, waiting, return_exceptions=True)
    release.set()
    run._seconds = 5.0
    async with asyncio.timeout(30):
        while run._stuck:
            await asyncio.sleep(0.001)
    assert await run(int) == 0
    assert not begun.is_set()


class HangingFiles(FileOperations):
    """A disk whose reads do not return before `release`."""

    def __init__(self, release: threading.Event) -> None:
        self._release = release

    def read(self, path: StrPath) -> bytes:
        self._release.wait()
        return super().read(path)


async def test_a_disk_that_hangs_is_told_and_stops_nothing_else(tmp_path: Path, release: threading.Event) -> None:
    """Every use of it is an answer, sooner or later at once; the store goes on when the disk does."""
    await FolderStore(tmp_path).update(ALICE, lambda _: Account(pool="google", name="alice"))
    run = BlockingCalls("the folder", threads=4, seconds=0.05)
    store = FolderStore(tmp_path, run=run, files=HangingFiles(release))
    for _ in range(8):
        with pytest.raises(StoreUnavailableError):
            await store.read(ALICE)
    assert await asyncio.get_running_loop().run_in_executor(None, int) == 0
    release.set()
    run._seconds = 10.0
    async with asyncio.timeout(30):
        while run._stuck:
            await asyncio.sleep(0.001)
        assert (await store.read(ALICE)).name == "alice"


async def test_a_lock_held_elsewhere_stops_neither_names_nor_other_accounts(tmp_path: Path) -> None:
    """A hundred wait for a lock, and as many for the folder's: names are looked up, other pools are read."""
    store = FolderStore(tmp_path)
    other = AccountKey.of("other", "bob")
    await store.update(ALICE, lambda _: Account(pool="google", name="alice"))
    await store.update(other, lambda _: Account(pool="other", name="bob"))
    holder = store_process.start("hold", tmp_path)
    folder_holder = store_process.start("hold_folder", tmp_path)
    try:
        for process in (holder, folder_holder):
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "held\n"

        async def wait_for_it() -> None:
            async with store.hold(ALICE):
                pytest.fail("two processes hold one lock")

        waiting = [asyncio.ensure_future(wait_for_it()) for _ in range(100)]
        waiting += [asyncio.ensure_future(_update(store)) for _ in range(100)]
        await asyncio.wait(waiting, timeout=0.1)
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
            assert (await store.read(ALICE)).name == "alice"
            await store.update(other, lambda account: account and account.with_paused(1))
            async with store.hold(other):
                pass
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        for process in (holder, folder_holder):
            process.kill()
            process.communicate()


async def _update(store: FolderStore) -> None:
    await store.update(ALICE, lambda account: account and account.with_paused(1))
