"""Private files, read safely and replaced durably: the old content or the new one, never a mix."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from authpool.errors import RefusedError, StoreUnavailableError
from authpool.files.file_owner import give_to_owner, make_folder_for_owner

MAX_BYTES = 1 << 20
TEMPORARY_SUFFIX = ".tmp"

_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # non-blocking: a FIFO must not hang us
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


type StrPath = str | os.PathLike[str]


class Identity(NamedTuple):
    """What changes when a file's content does: another inode, or another size or time (nanoseconds)."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class FileOperations:
    """The system calls behind a store. Tests hand in one that counts, fails or dies at one of them."""

    def read(self, path: StrPath) -> bytes:
        """Read a private file. Raises RefusedError (see `read_private`) and OSError."""
        return read_private(path)

    def create(self, path: Path) -> int:
        descriptor = os.open(path, _CREATE_FLAGS, 0o600)
        try:
            give_to_owner(descriptor, path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def fsync_folder(self, path: Path) -> None:
        """Make the names in a folder durable, not only what is in its files."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_private(path: StrPath, *, most: int = MAX_BYTES) -> bytes:
    """Read a file that only its owner may read, of at most so many bytes.

    Raises RefusedError, naming file and remedy, for a symbolic link, anything but a regular file, a file that
    others can read or write, and one that is longer; OSError for what the system says.
    """
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # what open(2) says to O_NOFOLLOW, by system
            raise RefusedError(f"{path} is a symbolic link; put the file itself there") from None
        raise
    try:
        status = os.fstat(descriptor)
        _check_private(path, status, most)
        return _read_all(descriptor, status.st_size, most)
    finally:
        os.close(descriptor)


def _check_private(path: StrPath, status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(f"{path} is not a regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise RefusedError(f"{path} is open to others (mode {mode:04o}); run: chmod 600 '{path}'")
    if status.st_size > most:
        raise RefusedError(f"{path} is larger than {most >> 20} MiB")


def _read_all(descriptor: int, size: int, most: int) -> bytes:
    data = b""
    while chunk := os.read(descriptor, asked := size + 1):
        data += chunk
        if len(chunk) < asked or len(data) > most:
            break  # a regular file gives less only at its end; one that grows meanwhile has another identity
    return data


def replace_file(
    files: FileOperations, path: Path, data: bytes, check: Callable[[], None], *, for_good: bool = True
) -> None:
    """Put `data` in the place of `path`, mode 0600, so that it survives a power cut.

    `check` is called once all is written, right before the rename, and stops it by raising. When anything
    raises before the rename, the old file is as it was and nothing is left behind. Not `for_good`: after a power cut
    the old content may be back, until the caller makes the folder durable.
    """
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        _write_durably(files, temporary, data)
        check()
        files.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            files.unlink(temporary)
        raise
    if for_good:
        files.fsync_folder(path.parent)


def make_folder(files: FileOperations, path: Path) -> None:
    """Make a private folder, as durably as a file, unless it is there. Raises StoreUnavailableError."""
    with unavailable(path):
        if make_folder_for_owner(path):
            files.fsync_folder(path.parent)


def _write_durably(files: FileOperations, path: Path, data: bytes) -> None:
    descriptor = files.create(path)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[files.write(descriptor, rest) :]
        files.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def unavailable(path: Path) -> Iterator[None]:
    """Tell an OSError as StoreUnavailableError, with the file's name and the system's words."""
    try:
        yield
    except OSError as error:
        named = str(error.filename or path)
        where = path if named.endswith(TEMPORARY_SUFFIX) else named  # a file that is gone by now helps nobody
        raise StoreUnavailableError(f"{where}: {error.strerror or error}") from error
