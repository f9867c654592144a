"""The wrapped data keys of a folder's store: ``sealing.toml`` in the home, replaced as a whole under a lock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from authpool.errors import RefusedError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations, replace_file, unavailable
from authpool.files.kernel_lock import SHORT_WAIT_SECONDS, hold_now

NAME = "sealing.toml"
_LOCK = ".sealing.lock"
_PAUSE_SECONDS = 0.01


class KeyFile:
    """Meant for worker threads. Each method raises StoreUnavailableError."""

    def __init__(self, home: Path, files: FileOperations) -> None:
        self.path = home / NAME
        self._files = files

    def read(self) -> bytes | None:
        """What the file says; None: there is none."""
        try:
            with unavailable(self.path):
                return self._files.read(self.path)
        except RefusedError as error:
            raise StoreUnavailableError(str(error)) from None
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def change(self, change: Callable[[bytes | None], bytes]) -> bytes:
        """Read, change and write, as one step that no other process comes between; the same writes nothing.

        Answers what the file says afterwards.
        """
        with self._alone():
            before = self.read()
            after = change(before)
            if after == before:
                return after
            with unavailable(self.path):
                replace_file(self._files, self.path, after, lambda: None)
            return after

    @contextmanager
    def _alone(self) -> Iterator[None]:
        deadline = time.monotonic() + SHORT_WAIT_SECONDS
        while True:
            with hold_now(self.path.with_name(_LOCK)) as held:
                if held:
                    yield
                    return
            if time.monotonic() > deadline:
                raise StoreUnavailableError(f"{self.path.with_name(_LOCK)} is held by a process that does not move on")
            time.sleep(_PAUSE_SECONDS)
