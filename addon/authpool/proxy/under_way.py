"""What operators asked for and is not done yet; stopping lets it land."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from authpool.errors import RefusedError

logger = logging.getLogger(__name__)

LAND_SECONDS = 20.0
"""So long stopping waits for commands: longer than a token endpoint may take, shorter than a supervisor's patience."""


class UnderWay:
    """Commands that run as tasks. None begins once `land` was called."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._closed = False

    def begin(self, work: Coroutine[Any, Any, None], name: str, *, waits_for_person: bool = False) -> None:
        """Run a command. Raises RefusedError when the gateway is ending.

        One that `waits_for_person` is cancelled at the end instead of waited for; it lands what it has begun.
        """
        if self._closed:
            work.close()
            raise RefusedError("the gateway is ending: nothing was begun")
        task = asyncio.create_task(work, name=name)
        for tasks in (self._tasks, self._waiting) if waits_for_person else (self._tasks,):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def land(self, patience_seconds: float = LAND_SECONDS) -> None:
        """Wait for all of them; cut off those that take too long, which keep what must not be lost."""
        self._closed = True
        if not self._tasks:
            return
        for task in list(self._waiting):
            task.cancel()
        logger.info("authpool: ending; first %d commands that are under way", len(self._tasks))
        await asyncio.wait(set(self._tasks), timeout=patience_seconds)
        for task in list(self._tasks):
            logger.warning("authpool: %s is cut off: it took longer than %g s", task.get_name(), patience_seconds)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
