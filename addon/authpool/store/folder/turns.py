"""Whose turn it is at a folder's lock."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from authpool.errors import StoreUnavailableError
from authpool.files.kernel_lock import SHORT_WAIT_SECONDS, Run

BUSY_SECONDS = (0.005, 0.05)


class Turns:
    """Of one process one at a time asks for a folder's lock. `run` runs blocking file work."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = WeakKeyDictionary()

    async def take(self, name: str, path: Path, work: Callable[[], tuple[bool, Any]]) -> Any:
        """Do what wants the lock of the folder at `path`, once nobody else has it; `name` is that folder's.

        `work` answers whether it had the lock, and what came of it. Raises StoreUnavailableError after 10 s: nobody
        takes longer, unless stopped, or a disk hangs.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SHORT_WAIT_SECONDS
        async with self._gates.setdefault(loop, {}).setdefault(name, asyncio.Lock()):
            while True:
                done, result = await self._run(work)
                if done:
                    return result
                if loop.time() > deadline:
                    raise StoreUnavailableError(f"{path / '.lock'} is held by a process that does not move on")
                await asyncio.sleep(random.uniform(*BUSY_SECONDS))  # noqa: S311  no secret, only keeps waiters apart
