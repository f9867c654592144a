"""Calls that block, on threads of their own: a disk or a lock that hangs must not hold up anything else.

asyncio's default executor also resolves names, for mitmproxy as well: whatever hangs there stops connecting.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from authpool.errors import StoreUnavailableError

THREADS = 16
CALL_SECONDS = 30.0
"""A call that takes longer is given up: its caller goes on, and its thread counts as stuck until it comes back."""
IDLE_SECONDS = 30.0
"""A thread with nothing to do for so long ends."""
LOOP_SECONDS = 10.0
"""A thread waits so long for its event loop to call something."""


class BlockingCalls:
    """Runs blocking functions as `asyncio.to_thread` does, on at most `threads` daemon threads.

    A call raises StoreUnavailableError when it takes longer than `seconds`, and at once while every thread is stuck.
    The threads are daemons, because one that hangs in the kernel would keep the process from ending.
    """

    def __init__(self, name: str, *, threads: int = THREADS, seconds: float = CALL_SECONDS) -> None:
        """`name` says what the calls work on, for messages and for the threads' names."""
        self._name = name
        self._limit = threads
        self._seconds = seconds
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._threads = 0
        self._pending = 0
        """Calls that wait or run."""
        self._stuck = 0

    async def __call__(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call the function in a thread. A caller that is cancelled leaves one that has begun to finish by itself."""
        if self._stuck >= self._limit:
            raise StoreUnavailableError(f"{self._name} does not answer: {self._stuck} calls hang")
        job = _Job(partial(function, *arguments, **keywords))
        self._submit(job)
        try:
            done, _ = await asyncio.wait([job.landed], timeout=self._seconds)
        except asyncio.CancelledError:
            job.given_up = True
            raise
        if not done:
            self._leave(job)
            raise StoreUnavailableError(f"{self._name} does not answer: a call took over {self._seconds:g} s")
        return job.landed.result()

    def _submit(self, job: "_Job") -> None:
        with self._guard:
            self._jobs.put(job)
            self._pending += 1
            start = self._pending > self._threads and self._threads < self._limit
            self._threads += start
        if start:
            threading.Thread(target=self._work, name=f"authpool {self._name}", daemon=True).start()

    def _leave(self, job: "_Job") -> None:
        """Give a call up. Where it has begun, its thread is stuck until it comes back."""
        with self._guard:
            job.given_up = True
            if job.begun and not job.over:
                self._stuck += 1
                job.stuck = True

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if not job.given_up:
                job.run()
            with self._guard:
                job.over = True
                self._pending -= 1
                self._stuck -= job.stuck
            del job  # or its result would live until the next one

    def _next(self) -> "_Job | None":
        """Wait for the next call; None: this thread is not needed any more."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._jobs.get(timeout=IDLE_SECONDS)
            with self._guard:
                if self._jobs.empty():
                    self._threads -= 1
                    return None


class _Job:
    """One call, and the future of the loop that waits for it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.landed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.begun = False
        self.over = False
        self.given_up = False
        """Nobody waits any more: not to be begun."""
        self.stuck = False
        self._call = call

    def run(self) -> None:
        self.begun = True
        try:
            told = partial(_set_result, self.landed, self._call())
        except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
            told = partial(_set_exception, self.landed, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.landed.get_loop().call_soon_threadsafe(told)


def _set_result(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a caller that left reads it no more


def in_loop[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Let worker threads call a function that belongs to the event loop's thread: it runs there, and they wait.

    To be called in the event loop. The call raises StoreUnavailableError when the loop has no turn for it.
    """
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        if threading.get_ident() == thread:
            return function(*arguments, **keywords)
        called: concurrent.futures.Future[R] = concurrent.futures.Future()
        try:
            loop.call_soon_threadsafe(_call_for, called, partial(function, *arguments, **keywords))
        except RuntimeError:
            raise StoreUnavailableError("the event loop has ended") from None
        concurrent.futures.wait([called], timeout=LOOP_SECONDS)
        if called.cancel():  # it has not begun
            raise StoreUnavailableError(f"the event loop did not move on for {LOOP_SECONDS:g} s")
        return called.result()

    return call


def _call_for[R](called: "concurrent.futures.Future[R]", call: Callable[[], R]) -> None:
    if called.set_running_or_notify_cancel():
        try:
            called.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
            called.set_exception(error)
