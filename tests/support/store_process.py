"""A process of its own that works on the account ``google/alice`` of a store.

``python -m support.store_process VERB FOLDER ARGUMENT``
"""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from authpool.accounts.account import Account, AccountKey, Token
from authpool.errors import StoreUnavailableError
from authpool.files.kernel_lock import hold_now
from authpool.store.folder.store import FolderStore
from support.file_operations import InterruptedFiles

ALICE = AccountKey.of("google", "alice")
NOBODY = 65534


def start(verb: str, folder: Path, argument: str = "") -> subprocess.Popen[str]:
    """Start such a process, with pipes to its standard input and output."""
    return subprocess.Popen(
        [sys.executable, "-m", "support.store_process", verb, str(folder), argument],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def count(folder: Path, times: str) -> None:
    """Add 1 to the account's `counter`, `times` times."""
    store = FolderStore(folder)
    for _ in range(int(times)):
        await store.update(ALICE, _counted)


async def hold(folder: Path, _: str) -> None:
    """Take the account's lock, say ``held``, and keep it until standard input ends."""
    async with FolderStore(folder).hold(ALICE):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def hold_folder(folder: Path, _: str) -> None:
    """Take the lock of the account's pool folder, as a process does that is stopped in the middle of a write."""
    with hold_now(folder / "google" / ".lock") as held:
        assert held
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def die(folder: Path, step: str) -> None:
    """Replace the token, and die without a word at `step`."""
    files = InterruptedFiles(step, lambda: os._exit(9))
    await FolderStore(folder, files=files).update(ALICE, _renewed)


async def fill(folder: Path, size: str) -> None:
    """Replace the token on a disk that takes no file larger than `size`, and say what the store says."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    await _say_trouble(folder)


async def trespass(folder: Path, _: str) -> None:
    """Replace the token as somebody who may not write there, and say what the store says."""
    await asyncio.to_thread(int)  # imports what threads need while that can be read
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    await _say_trouble(folder)


async def _say_trouble(folder: Path) -> None:
    try:
        await FolderStore(folder).update(ALICE, _renewed)
    except StoreUnavailableError as error:
        print(error)


def _renewed(account: Account | None) -> Account | None:
    return account and account.with_token(Token(access_token="new" * 100, refresh_token="new"))


def _counted(account: Account | None) -> Account:
    account = account or Account(pool="google", name="alice")
    return replace(account, extra={**account.extra, "counter": account.extra.get("counter", 0) + 1})


VERBS: dict[str, Callable[[Path, str], object]] = {
    v.__name__: v for v in (count, hold, hold_folder, die, fill, trespass)
}

if __name__ == "__main__":
    asyncio.run(VERBS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3]))  # type: ignore[arg-type]
