"""Locks that the kernel keeps: they exclude every process and task, and end with the process."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from authpool.errors import StoreUnavailableError
from authpool.files.file_owner import make_for_owner

type Run = Callable[..., Awaitable[Any]]
"""Runs a blocking function with its arguments, as `asyncio.to_thread` does."""

SHORT_WAIT_SECONDS = 10.0
_POLL_SECONDS = (0.010, 0.050)


@asynccontextmanager
async def hold(path: Path, run: Run) -> AsyncIterator[None]:
    """Hold the lock file `path` for as long as it takes; waiting takes neither the event loop nor a thread.

    Its folder must exist. Raises StoreUnavailableError.
    """
    while (attempt := await _try_in(run, path)) is None:  # noqa: ASYNC110  the other holder may be any process
        await asyncio.sleep(random.uniform(*_POLL_SECONDS))  # noqa: S311  no secret, only keeps waiters apart
    try:
        yield
    finally:
        attempt.give_up()


@contextmanager
def hold_now(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` in a worker thread, if nobody else does; whether it is held.

    Raises StoreUnavailableError.
    """
    lock = _take(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


class _Attempt:
    """One try at a lock in a thread, which can't be called back: what it takes too late it gives back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._lock: FileLock | None = None
        self._given_up = False

    def take(self) -> bool:
        lock = _take(self._path)
        with self._guard:
            if not self._given_up:
                self._lock = lock
                return lock is not None
        if lock is not None:
            lock.release()
        return False

    def give_up(self) -> None:
        """Let go of the lock, now or as soon as it is taken."""
        with self._guard:
            self._given_up = True
            lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


async def _try_in(run: Run, path: Path) -> _Attempt | None:
    attempt = _Attempt(path)
    try:
        return attempt if await run(attempt.take) else None
    except BaseException:
        attempt.give_up()
        raise


def _take(path: Path) -> FileLock | None:
    lock = _new(path)
    try:
        make_for_owner(path)
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        raise StoreUnavailableError(f"{path}: {error.strerror or error}") from error
    return lock


def _new(path: Path) -> FileLock:
    # filelock would create the folder; but one that was moved away must not come back empty.
    if not path.parent.is_dir():
        raise StoreUnavailableError(f"{path.parent} is gone; put it back")
    # One object per acquisition: an object lets its own holder in again. Never the soft kind, and never
    # unlinked: two processes could then hold two files of one name.
    return FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)
