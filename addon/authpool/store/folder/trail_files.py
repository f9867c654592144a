"""The audit trail of a folder's store: ``audit.jsonl`` of a home, one JSON object a line.

Several processes append to it without waiting for each other, and none loses or mixes a line: a line is one write to
a file opened for appending. A file that is full is renamed (``.1`` is the newest of those) under a kernel lock on the
file itself; who has it open still writes into it under its new name.
"""

import fcntl
import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from authpool.errors import StoreUnavailableError
from authpool.files.file_owner import make_for_owner
from authpool.store.audit import Entry, parse_entries

logger = logging.getLogger(__name__)

NAME = "audit.jsonl"
ROTATE_BYTES = 1 << 20
KEPT = 3
"""So many full files are kept beside the current one."""
LATE = 10_000
"""So many lines that can't be written are kept."""

_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # non-blocking: a FIFO must not hang us
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | _SAFELY

type FileIdentity = tuple[int, int]
"""Device and inode: a file that is renamed keeps them."""


class TrailFiles:
    """The trail of one home, for one process. A write that fails is logged, once, and tried again."""

    def __init__(self, home: Path, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._home = home
        self._path = home / NAME
        self._rotate_bytes = rotate_bytes
        self._failing = False
        self._late: deque[Entry] = deque(maxlen=LATE)
        self._doubtful = True
        """Whether the file may end with a part of a line: left by an earlier process, or by a write that failed."""

    def append(self, entry: Entry) -> None:
        """Write an entry down. Blocks for as long as one small write takes; nothing is synced to the disk."""
        self.flush()
        if not self._late and self._try(entry):
            return
        self._late.append(replace(entry, late=True))

    def flush(self) -> None:
        """Write down what could not be written earlier, the oldest first."""
        while self._late and self._try(self._late[0]):
            self._late.popleft()

    def _try(self, entry: Entry) -> bool:
        try:
            self.write(entry.line())
        except OSError as error:
            if not self._failing:  # once, until it works again
                self._failing = True
                logger.error("The audit trail %s can't be written: %s. Nothing else stops", self._path, error.strerror)
            return False
        self._failing = False
        return True

    def newest(self, most: int | None) -> list[Entry]:
        """As `Store.entries`. Raises StoreUnavailableError."""
        try:
            return read_trail(self._home, most)
        except OSError as error:
            where = error.filename or self._home
            raise StoreUnavailableError(f"{where} can't be read: {error.strerror}") from error

    def since(self, position: object) -> tuple[list[Entry], object]:
        """As `Store.entries_since`: a position is how much of each file was read."""
        read, offsets = self._read_since(position)
        entries: list[Entry] = []
        for content, found in read:
            new = parse_entries(content.split(b"\n"))
            entries += (replace(entry, found=True) for entry in new) if found else new
        return entries, offsets

    def completed(self, complete: Callable[[list[bytes]], list[bytes]]) -> tuple[list[Entry], object]:
        """As `since` of no position, when `complete` has put among all lines what is missing there."""
        read, offsets = self._read_since(None)
        lines = [line for content, _ in read for line in content.split(b"\n") if line]
        return list(parse_entries(complete(lines))), offsets

    def _read_since(self, position: object) -> tuple[list[tuple[bytes, bool]], Mapping[FileIdentity, int]]:
        """What each file has got since then, the oldest first, and whether the file was not there then."""
        self.flush()
        before: Mapping[FileIdentity, int] = position if isinstance(position, dict) else {}
        offsets: dict[FileIdentity, int] = {}
        read: list[tuple[bytes, bool]] = []
        for file in trail_files(self._path):  # older ones too: who has one open still appends to it
            offset = offsets[file.identity] = before.get(file.identity, 0)
            if file.size == offset:
                continue
            if file.size < offset:  # it was written anew in place
                offset = 0
            content = read_from(file, offset)
            if content is not None:
                offsets[file.identity] = offset + len(content)
                read.append((content, offset == 0 and position is not None))
        return read, offsets

    def write(self, line: bytes) -> None:
        """As `append`. Raises OSError."""
        descriptor = self._open(len(line))
        try:
            if self._doubtful and not _ends_whole(descriptor):
                line = b"\n" + line
            self._doubtful = True
            if os.write(descriptor, line) < len(line):
                raise OSError(0, "only a part of a line could be written")
            self._doubtful = False
        finally:
            os.close(descriptor)

    def _open(self, room: int) -> int:
        """Open the file that takes the next line, once the one before is out of the way if it is full."""
        descriptor = _open_regular(self._path, _APPEND)
        if os.fstat(descriptor).st_size + room <= self._rotate_bytes:
            return descriptor
        try:
            rotated = self._rotate(descriptor)
        except OSError:
            rotated = False  # a longer file is better than a missing line
        if not rotated:
            return descriptor
        os.close(descriptor)
        return _open_regular(self._path, _APPEND)

    def _rotate(self, descriptor: int) -> bool:
        """Rename the full file, unless somebody does or did. Only who locked what the name stands for may."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # it is being renamed right now: this line still belongs to its end
        if not os.path.samestat(os.fstat(descriptor), os.lstat(self._path)):
            return True
        numbers = range(1, KEPT + 1)
        free = next((n for n in numbers if not os.path.lexists(rotated_path(self._path, n))), KEPT)
        for number in range(free, 0, -1):
            os.rename(rotated_path(self._path, number - 1), rotated_path(self._path, number))
        return True


def rotated_path(path: Path, number: int) -> Path:
    """The `number`-th youngest full file; 0 is the current one."""
    return path.with_name(f"{path.name}.{number}") if number else path


def _open_regular(path: Path, flags: int) -> int:
    if flags & os.O_CREAT:
        make_for_owner(path)
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a regular file", str(path))
    return descriptor


def _ends_whole(descriptor: int) -> bool:
    """Whether the file ends with a whole line. A write that is under way may look like a part of one: look again."""
    for pause in (0.001, 0.001, 0):
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
            return True
        time.sleep(pause)
    return False


def read_trail(home: Path, newest: int | None = None) -> list[Entry]:
    """Every entry there is, or the `newest` so many, oldest first; a line that is no entry is left out.

    Raises OSError.
    """
    lines = trail_lines(home)
    return list(parse_entries(lines if newest is None else lines[-newest:]))


def trail_lines(home: Path) -> list[bytes]:
    """Every line there is, oldest first. Raises OSError."""
    path = home / NAME
    contents: list[bytes] = []
    seen: set[FileIdentity] = set()
    for number in range(KEPT + 1):  # from the youngest: what is renamed meanwhile is met again, not missed
        with suppress(FileNotFoundError):
            status, content = _read(rotated_path(path, number))
            if _identity(status) not in seen:
                seen.add(_identity(status))
                contents.append(content)
    return [line for content in reversed(contents) for line in content.split(b"\n") if line]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailFile:
    """One file of a trail, as it was a moment ago."""

    path: Path
    identity: FileIdentity
    size: int


def trail_files(path: Path) -> list[TrailFile]:
    """The files of the trail at `path`, oldest first, each once; those that can't be looked at are left out."""
    found: dict[FileIdentity, TrailFile] = {}
    for number in range(KEPT + 1):  # from the youngest, as in `read_trail`
        with suppress(OSError):
            file = rotated_path(path, number)
            status = file.stat(follow_symlinks=False)
            found.setdefault(_identity(status), TrailFile(path=file, identity=_identity(status), size=status.st_size))
    return list(reversed(found.values()))


def read_from(file: TrailFile, offset: int) -> bytes | None:
    """What a file holds from `offset` on, whole lines only; None when it can't be read, or was renamed since."""
    try:
        with os.fdopen(_open_regular(file.path, os.O_RDONLY | _SAFELY), "rb") as opened:
            if _identity(os.fstat(opened.fileno())) != file.identity:
                return None
            opened.seek(offset)
            content = opened.read()
    except OSError:
        return None
    return content[: content.rfind(b"\n") + 1]


def _identity(status: os.stat_result) -> FileIdentity:
    return status.st_dev, status.st_ino


def _read(path: Path) -> tuple[os.stat_result, bytes]:
    with os.fdopen(_open_regular(path, os.O_RDONLY | _SAFELY), "rb") as file:
        return os.fstat(file.fileno()), file.read()
