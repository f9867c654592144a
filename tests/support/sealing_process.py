"""A process of its own that begins to seal a folder: ``python -m support.sealing_process FOLDER NAME``."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from authpool.accounts.account import Account, AccountKey, Token
from authpool.store.folder.store import FolderStore
from authpool.store.sealing.key_ring import OperatorKey

OPERATOR = OperatorKey(bytes(range(32)))


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    """Start one that is ready to write, and writes once its standard input has a line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.sealing_process", str(folder), name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


async def write(folder: Path, name: str) -> None:
    """Add an account, in a folder that nothing was sealed in yet."""
    store = FolderStore(folder)
    assert store.seal_with(OPERATOR) == ""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    token = Token(access_token=f"SECRET-{name}", refresh_token=f"SECRET-{name}-2")
    account = Account(pool=f"pool-{name}", name=name, token=token)
    await store.update(AccountKey.of(account.pool, name), lambda _: account)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2]))
