"""The disk of processes that are killed: it fails for all of them, and each may die at a step of its own."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from authpool.files.atomic_file import StrPath
from support.file_operations import InterruptedFiles


class Crash(BaseException):
    """The process is gone; as with SIGKILL, nobody handles it."""


@dataclass(slots=True, kw_only=True)
class Disk:
    """The disk that all processes share; `trouble` is the errno that each write ends in, None: it works."""

    trouble: int | None = None


class DyingFiles(InterruptedFiles):
    """System calls that fail with the disk, end with the process, and kill it at a chosen step of a later write."""

    def __init__(self, disk: Disk, die: Callable[[], None]) -> None:
        super().__init__(None, die)
        self.dead = False
        self.writes_left = 0
        self._disk = disk

    def read(self, path: StrPath) -> bytes:
        self._alive()
        return super().read(path)

    def unlink(self, path: Path) -> None:
        self._alive()
        super().unlink(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._at("write")
        half = os.write(descriptor, data[: len(data) // 2])
        self._at("half a write")
        return half + os.write(descriptor, data[half:])

    def at(self, step: str) -> None:
        """Come to a step that is no write of a whole file: die there if it was chosen, or fail with the disk."""
        self._alive()
        if self.step == step:
            self._interrupt()
        if self._disk.trouble is not None:
            raise OSError(self._disk.trouble, os.strerror(self._disk.trouble))

    def _at(self, step: str) -> None:
        self._alive()
        if self.step == step and self.writes_left == 0:
            self._interrupt()
        if step == "fsync_folder" and self.step is not None:
            self.writes_left -= 1
        if step == "create" and self._disk.trouble == errno.EROFS:
            raise OSError(errno.EROFS, "Read-only file system")
        if step == "half a write" and self._disk.trouble == errno.ENOSPC:
            raise OSError(errno.ENOSPC, "No space left on device")
        if step == "fsync_folder" and self._disk.trouble == errno.EIO:
            raise OSError(errno.EIO, "Input/output error")

    def _alive(self) -> None:
        if self.dead:
            raise Crash
