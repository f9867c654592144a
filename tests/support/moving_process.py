"""A process of its own that moves an account and dies on the way.

``python -m support.moving_process HOME ACCOUNT POOL STEP``: killed right before its STEP-th write under ``accounts/``.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from authpool.files.atomic_file import FileOperations
from authpool.gateway.service import Service
from authpool.store.folder.store import FolderStore
from authpool.verbs.operations import Operations

STEPS = 3
"""So many steps change which records there are: the new one, the end of the old one, and the end of the mark."""


class DyingFiles(FileOperations):
    """System calls that end the process before the `step`-th of those that others can see."""

    def __init__(self, step: int) -> None:
        self._left = step

    def _live_on(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def rename(self, source: Path, target: Path) -> None:
        self._live_on()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        if path.suffix == ".toml":
            self._live_on()
        super().unlink(path)


async def main(home: Path, account: str, pool: str, step: int) -> None:
    """Move, as the command line does."""
    store = FolderStore(home / "accounts", files=DyingFiles(step))
    service = Service(home, {}, store=store, process="command line")
    try:
        await Operations(service).move(account, pool)
    finally:
        await service.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
