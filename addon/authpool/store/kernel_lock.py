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
from authpool.store.ownership import make_for_owner

type Run = Callable[..., Awaitable[Any]]
"""Runs a blocking function with its arguments, as `asyncio.to_thread` does."""

SHORT_WAIT_SECONDS = 10.0
_POLL_SECONDS = (0.010, 0.050)
_SHORT_POLL_SECONDS = 0.005


@asynccontextmanager
async def hold(path: Path, run: Run) -> AsyncIterator[None]:
    """Hold the lock file `path` for as long as it takes, waiting without blocking the event loop.

    Its folder must exist. Raises StoreUnavailableError.
    """
    while (lock := await _try_in(run, path)) is None:  # noqa: ASYNC110  the other holder may be any process
        await asyncio.sleep(random.uniform(*_POLL_SECONDS))  # noqa: S311  no secret, only keeps waiters apart
    try:
        yield
    finally:
        lock.release()


@contextmanager
def hold_short(path: Path, gate: threading.Lock) -> Iterator[None]:
    """Hold the lock file `path` in a worker thread for the moment that file work takes.

    `gate` queues the threads of this process, so that one of them at a time polls the file. Waits at most
    10 s: nobody holds it longer, unless stopped or on a disk that hangs. Raises StoreUnavailableError.
    """
    with gate:
        lock = _new(path)
        try:
            make_for_owner(path)
            lock.acquire(timeout=SHORT_WAIT_SECONDS, poll_interval=_SHORT_POLL_SECONDS)
        except Timeout:
            raise StoreUnavailableError(f"{path} is held by a process that does not move on") from None
        except OSError as error:
            raise StoreUnavailableError(f"{path}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()


async def _try_in(run: Run, path: Path) -> FileLock | None:
    attempt = asyncio.ensure_future(run(_try, path))
    try:
        taken: FileLock | None = await asyncio.shield(attempt)
    except asyncio.CancelledError:
        # The thread can't be called back: what it still takes is given back when it is done.
        attempt.add_done_callback(_give_back)
        raise
    return taken


def _give_back(attempt: asyncio.Future[FileLock | None]) -> None:
    if not attempt.cancelled() and attempt.exception() is None and (lock := attempt.result()):
        lock.release()


def _try(path: Path) -> FileLock | None:
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
