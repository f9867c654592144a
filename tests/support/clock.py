"""A clock that stands still until a test turns it."""

import asyncio
import heapq
import itertools

_SETTLE_ROUNDS = 1000


class FakeClock:
    """Time that moves only in `advance`; has the methods of `authpool.clock.Clock`."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        """`now` is the wall-clock time to begin with, in Unix seconds."""
        self._wall_offset = now
        self._monotonic = 0.0
        self._waiters: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self._wall_offset + self._monotonic

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Return when `advance` has passed `seconds`; after one turn of the loop when that is not positive."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (self._monotonic + seconds, next(self._order), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep now."""
        return sum(not woken.done() for _, _, woken in self._waiters)

    async def advance(self, seconds: float) -> None:
        """Move on, waking sleepers one by one in order of their deadlines, each at its own time.

        A woken task runs until it waits for something other than the event loop's next turns (a thread or a
        socket is not waited for), so a task that sleeps again within the span is woken again within it.
        """
        end = self._monotonic + seconds
        await self.settle()
        while self._waiters and self._waiters[0][0] <= end:
            deadline, _, woken = heapq.heappop(self._waiters)
            if woken.done():  # its task was cancelled
                continue
            self._monotonic = deadline
            woken.set_result(None)
            await self.settle()
        self._monotonic = end

    async def settle(self) -> None:
        """Let every task that can run do so, until all of them wait; a task that never waits is not waited for."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)
            if not ready:
                return

    async def wait_for_sleepers(self, count: int = 1, deadline_seconds: float = 30.0) -> None:
        """Wait, in real time, until so many tasks are asleep: some get there through threads or sockets."""
        async with asyncio.timeout(deadline_seconds):
            while self.sleepers < count:
                await asyncio.sleep(0.001)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as an administrator does; nothing else notices."""
        self._wall_offset += seconds
