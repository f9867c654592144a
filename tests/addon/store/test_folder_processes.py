"""The account store on a folder, shared by processes that crash, hang and run out of space."""

# ruff: noqa: ASYNC240  a test may look at a local file wherever it is

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authpool.accounts.account import Account, Token
from authpool.store.folder.store import FolderStore
from support import store_process
from support.file_operations import STEPS
from support.store_process import ALICE

DEADLINE_SECONDS = 30

type Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """An accounts folder with ``google/alice``, whose refresh token is ``old``."""
    await make_alice(tmp_path / "accounts")
    return tmp_path / "accounts"


async def make_alice(folder: Path) -> None:
    token = Token(access_token="old" * 100, refresh_token="old")
    await FolderStore(folder).update(ALICE, lambda _: Account(pool="google", name="alice", token=token))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start store processes that are gone when the test is over."""
    running: list[subprocess.Popen[str]] = []

    def start(verb: str, folder: Path, argument: str = "") -> subprocess.Popen[str]:
        running.append(store_process.start(verb, folder, argument))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


async def output(process: subprocess.Popen[str]) -> str:
    return (await asyncio.to_thread(process.communicate, timeout=DEADLINE_SECONDS))[0]


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_leaves_old_or_new(folder: Path, start: Start, step: str) -> None:
    """A process that dies at any step of a write leaves one content whole, and holds nobody up."""
    process = start("die", folder, step)
    await output(process)
    assert process.returncode == 9
    token = (await FolderStore(folder).read(ALICE)).token
    renamed = step in {"after rename", "fsync_folder"}
    word = "new" if renamed else "old"
    assert (token.refresh_token, token.access_token) == (word, word * 100)
    async with asyncio.timeout(5):
        assert await FolderStore(folder).update(ALICE, lambda a: a and a.with_paused(1))


async def test_no_increment_is_lost(folder: Path, start: Start) -> None:
    """4 processes add 1 to one counter 50 times each, and it says 200."""
    for process in [start("count", folder, "50") for _ in range(4)]:
        await output(process)
        assert process.returncode == 0
    assert (await FolderStore(folder).read(ALICE)).extra == {"counter": 200}


async def test_a_lock_excludes_other_processes_until_its_holder_dies(folder: Path, start: Start) -> None:
    """Nobody else has it while its holder lives; kill -9 frees it at once; `update` never waits for it."""
    holder = start("hold", folder)
    assert holder.stdout
    assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
    store = FolderStore(folder)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), store.hold(ALICE):
            pytest.fail("two processes hold one lock")
    async with asyncio.timeout(5):
        assert await store.update(ALICE, lambda a: a and a.with_paused(1))
    holder.kill()
    async with asyncio.timeout(5), store.hold(ALICE):
        pass


async def test_a_full_disk_loses_nothing(folder: Path, start: Start) -> None:
    """A write that does not fit is told with the file's name, and the old record is as it was."""
    said = await output(start("fill", folder, "200"))
    assert "alice.toml: File too large" in said
    assert (await FolderStore(folder).read(ALICE)).token.refresh_token == "old"
    assert not list(folder.rglob("*.tmp"))


async def test_a_folder_that_is_not_ours_to_write_is_told(start: Start) -> None:
    """Permission denied becomes StoreUnavailableError, and the record is as it was."""
    # Not under tmp_path, which a process that gave up root's rights can't reach.
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "accounts")
        await make_alice(folder)
        if os.geteuid() == 0:
            for path in (Path(home), folder, *folder.rglob("*")):
                shutil.chown(path, store_process.NOBODY)
        (folder / "google").chmod(0o500)
        said = await output(start("trespass", folder))
        (folder / "google").chmod(0o700)
        assert "alice.toml" in said
        assert "Permission denied" in said
        assert (await FolderStore(folder).read(ALICE)).token.refresh_token == "old"
