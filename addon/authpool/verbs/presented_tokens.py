"""Which refresh tokens an import is presenting: so the next one can tell what one that was killed may have spent.

Fingerprints alone, one a line, in a file beside what is rescued. Nothing is synced to the disk: a process that is
killed leaves what it has written.
"""

import os
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from authpool.files.atomic_file import FileOperations, replace_file
from authpool.files.file_owner import make_for_owner

NAME = ".presented"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES = 1 << 20


class PresentedTokens:
    """The file of one home; for whoever holds `RescuedTokens.alone`. It helps to explain, and stops nothing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._doubtful: set[str] = set()

    @property
    def doubtful(self) -> AbstractSet[str]:
        """What was presented, and nobody knows what came of it."""
        return self._doubtful

    def read(self) -> None:
        """See what an import that was killed has left."""
        with suppress(OSError):
            with self._path.open("rb") as file:
                lines = file.read(_MOST_BYTES).split()
            self._doubtful |= {line.decode("ascii", "replace") for line in lines}

    def begin(self, mark: str) -> None:
        """This one is presented in a moment."""
        with suppress(OSError):
            make_for_owner(self._path)
            descriptor = os.open(self._path, _APPEND, 0o600)
            try:
                os.write(descriptor, f"{mark}\n".encode())
            finally:
                os.close(descriptor)

    def settle(self, mark: str) -> None:
        """It is known what came of it."""
        self._doubtful.discard(mark)

    def doubt(self, mark: str) -> None:
        """An answer to it was lost."""
        self._doubtful.add(mark)

    def write(self) -> None:
        """Nothing is under way any more: leave what is in doubt."""
        with suppress(OSError):
            if self._doubtful:
                data = "".join(f"{mark}\n" for mark in sorted(self._doubtful)).encode()
                replace_file(FileOperations(), self._path, data, lambda: None, for_good=False)
            else:
                self._path.unlink(missing_ok=True)
