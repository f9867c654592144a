"""An event loop on which waiting takes no time: when nothing can run, the clock moves on to the next timer."""

import asyncio
from collections.abc import Callable
from typing import Any


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time` starts at 0 and moves only while everybody waits; for tasks that meet no thread and no socket."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._select: Callable[[float | None], Any] = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._move_on  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def _move_on(self, timeout: float | None) -> Any:
        events = self._select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self._now += timeout
        return events


class VirtualClock:
    """The clock of such a loop, for `authpool.clock.Clock`; the wall clock can be put forward and back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: float = 1_700_000_000.0) -> None:
        self._loop = loop
        self._wall_offset = now

    def time(self) -> float:
        return self._wall_offset + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as an administrator does; nothing else notices."""
        self._wall_offset += seconds
