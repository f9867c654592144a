"""Carrying out what may be slow on a thread of its own, in order, so that nothing else waits for it."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from authpool.errors import raised_at

logger = logging.getLogger(__name__)

CAPACITY = 1000


class EventThread:
    """One background thread, started when there is something to do; it never keeps a process from ending.

    `post` and `close` come from one thread at a time.
    """

    def __init__(self, name: str, *, capacity: int = CAPACITY) -> None:
        self._name = name
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._dropping = False
        self._closed = False
        self._busy: tuple[str, float] | None = None

    def post(self, job: Callable[[], None], what: str) -> None:
        """Have a job done after those before it. When too many wait it is dropped, said once in the log."""
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            if not self._dropping:
                self._dropping = True
                logger.error("%d %s wait and further ones are dropped: %s", self._jobs.maxsize, what, self._holdup())
        else:
            self._dropping = False

    def busy_with(self, whose: str) -> None:
        """Called by a job: what it does now is the work of `whose`, to be named if it does not end."""
        self._busy = (whose, time.monotonic())

    def close(self, patience_seconds: float) -> bool:
        """Let what waits be done, for so long; True when all of it was. Blocks."""
        self._closed = True
        if self._thread is None:
            return True
        deadline = time.monotonic() + patience_seconds
        with suppress(queue.Full):
            self._jobs.put(None, timeout=patience_seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            logger.error("%d events were not told any more: %s", max(0, self._jobs.qsize() - 1), self._holdup())
            return False
        return True

    def _holdup(self) -> str:
        if self._busy is None:
            return "they come too fast"
        whose, since = self._busy
        return f"{whose} has been busy for {time.monotonic() - since:.0f} s"

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it is somebody else's code
                logger.error("%s failed: %s%s", self._name, type(error).__name__, raised_at(error))
            self._busy = None
            if self._closed and self._jobs.empty():
                return  # there may have been no room for what tells of the end
