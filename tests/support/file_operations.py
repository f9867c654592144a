"""System calls for a store that count, fail or end the process at a chosen step."""

from collections.abc import Callable
from pathlib import Path

from authpool.files.atomic_file import FileOperations, StrPath

STEPS = ("create", "write", "half a write", "fsync", "rename", "after rename", "fsync_folder")
"""The steps of one durable write, in order. Only what fails after the rename leaves the new content."""


class CountingFiles(FileOperations):
    """Remembers which files were read, by name."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def read(self, path: StrPath) -> bytes:
        self.reads.append(Path(path).name)
        return super().read(path)


class InterruptedFiles(FileOperations):
    """Calls `interrupt` when a write comes to `step`; None: never."""

    def __init__(self, step: str | None, interrupt: Callable[[], None]) -> None:
        self.step = step
        self._interrupt = interrupt

    def create(self, path: Path) -> int:
        self._at("create")
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._at("write")
        if self.step == "half a write":
            super().write(descriptor, data[: len(data) // 2])
        self._at("half a write")
        return super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._at("fsync")
        super().fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._at("rename")
        super().rename(source, target)
        self._at("after rename")

    def fsync_folder(self, path: Path) -> None:
        self._at("fsync_folder")
        super().fsync_folder(path)

    def _at(self, step: str) -> None:
        if step == self.step:
            self._interrupt()


class EditedFiles(FileOperations):
    """Lets an editor save, by calling `edit`, just before a write's comparison, `times` times."""

    def __init__(self, edit: Callable[[], object], times: int = 1) -> None:
        self._edit = edit
        self.left = times

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        if self.left:
            self.left -= 1
            self._edit()
