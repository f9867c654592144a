"""Disks that fill up or turn read-only, for tests that run as root; others skip with a line that says so."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BLOCK = b"x" * 4096


class SmallDisk:
    """A file system in memory at `path`, of a few dozen pages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / ".filler"

    def fill(self) -> None:
        """Leave not one byte."""
        try:
            with self._filler.open("ab", buffering=0) as file:
                while file.write(_BLOCK):
                    pass
        except OSError:
            return

    def free(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """Mount a small disk at `path`."""
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=512k,mode=700", "authpool-test", str(path))
    try:
        yield SmallDisk(path)
    finally:
        _unmount(path)


@contextmanager
def switchable(path: Path) -> Iterator[Path]:
    """Mount a folder onto itself, so that `set_read_only` can be told of it."""
    _mount("--bind", str(path), str(path))
    try:
        yield path
    finally:
        _unmount(path)


def set_read_only(path: Path, *, read_only: bool) -> None:
    _mount("-o", f"remount,bind,{'ro' if read_only else 'rw'}", str(path))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a disk needs root: {done.stderr.strip()}")


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)
