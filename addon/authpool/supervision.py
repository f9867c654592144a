"""Background tasks that are to run for as long as the gateway does: one that dies is told of, and started again."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable

from authpool.clock import Clock

logger = logging.getLogger(__name__)

PAUSE_SECONDS = (0.5, 30.0)
"""Before it is started again; doubled each time it dies soon after."""
STEADY_SECONDS = 60.0
"""What ran for so long is started again after the shortest pause."""


async def supervised(name: str, make: Callable[[], Awaitable[object]], clock: Clock) -> None:
    """Run what `make` gives, again and again; ends by cancellation. `make` is called anew for each start."""
    pause, longest = PAUSE_SECONDS
    while True:
        began = clock.monotonic()
        try:
            await make()
            why = "it ended"
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told, and the task goes on
            why = f"{type(error).__name__} at {place(error)}"
        if clock.monotonic() - began >= STEADY_SECONDS:
            pause = PAUSE_SECONDS[0]
        logger.error("The %s stopped: %s. It is started again in %g s", name, why, pause)
        await clock.sleep(pause)
        pause = min(longest, pause * 2)


def place(error: BaseException) -> str:
    """Where an exception was raised, as FILE:LINE; its own words may hold what no log may."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def tell_if_it_dies(task: "asyncio.Task[object]") -> None:
    """For a task that runs once and that nobody awaits: say so when it fails."""
    task.add_done_callback(_tell)


def _tell(task: "asyncio.Task[object]") -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.error("The task %r failed: %s at %s", task.get_name(), type(error).__name__, place(error))
