"""Refreshes that nobody waits for: so many at a time of each token endpoint, so that requests find room beside them."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from authpool.accounts.account import AccountKey

BACKGROUND_FLIGHTS = 8
"""Of each token endpoint: half of what it is asked at a time at most."""


class BackgroundFlights:
    """Begins them in the order they came in. `refresh` does one; `endpoint_of` names whom it asks."""

    def __init__(
        self, refresh: Callable[[AccountKey], Awaitable[None]], endpoint_of: Callable[[AccountKey], str]
    ) -> None:
        self._refresh = refresh
        self._endpoint_of = endpoint_of
        self._queues: dict[str, deque[AccountKey]] = {}
        """Who is due, and waits until fewer are asking the same token endpoint; by that endpoint."""
        self._queued: set[AccountKey] = set()
        self._under_way: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()

    def add(self, key: AccountKey) -> None:
        """Refresh an account as soon as there is room."""
        if key in self._queued:
            return
        self._queued.add(key)
        endpoint = self._endpoint_of(key)
        self._queues.setdefault(endpoint, deque()).append(key)
        self._start(endpoint)

    async def aclose(self) -> None:
        self._queues.clear()
        self._queued.clear()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _start(self, endpoint: str) -> None:
        """Begin as many refreshes of those that wait for an endpoint as may be under way there."""
        queue = self._queues.get(endpoint)
        while queue and self._under_way[endpoint] < BACKGROUND_FLIGHTS:
            key = queue.popleft()
            self._queued.discard(key)
            self._under_way[endpoint] += 1
            task = asyncio.create_task(self._fly(key, endpoint), name=f"keep {key}")
            if not task.done():
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        if not queue:
            self._queues.pop(endpoint, None)

    async def _fly(self, key: AccountKey, endpoint: str) -> None:
        try:
            await self._refresh(key)
        finally:
            self._under_way[endpoint] -= 1
            self._under_way = +self._under_way  # without those at zero
            self._start(endpoint)
