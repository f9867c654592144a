"""The gateways that run on a home: each says in a file of its own that it is there, and what its last reload did.

``run/<pid>-<random>.json`` is replaced as a whole. The kernel holds the lock on the file beside it (``.lock``) for as
long as the gateway lives, so that no other process of that number, in whatever container, is taken for it. These files
tell of one host's processes, whatever the store is, and are not part of it.
"""

import fcntl
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from authpool.errors import AuthpoolError, RefusedError
from authpool.files.atomic_file import FileOperations, read_private, replace_file
from authpool.files.file_owner import give_to_owner
from authpool.files.home import secure_folder

logger = logging.getLogger(__name__)

FOLDER = "run"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a gateway's last reload did. `request` is the newest request that it knew of; `error` is empty if done.

    `seal_key` is the fingerprint of the operator's key that it has, empty where it has none.
    """

    request: int
    error: str = ""
    seal_key: str = ""

    @classmethod
    def refused(cls, request: int, error: BaseException, seal_key: str = "") -> Self:
        """A reload that came to nothing. Of what is no refusal only its kind is told, for its text may be a secret."""
        told = str(error) if isinstance(error, AuthpoolError) else f"it failed ({type(error).__name__}); see its log."
        return cls(request=request, error=told, seal_key=seal_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A gateway that runs on the home; `reloaded` is None where it can't be read."""

    file: str
    pid: int
    reloaded: Reloaded | None


class Presence:
    """This gateway's own file. What can't be written is logged, once, and harms nothing."""

    def __init__(self, home: Path, files: FileOperations | None = None) -> None:
        self._home = home
        self._folder = home / FOLDER
        self._path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        self._files = files or FileOperations()
        self._lock: int | None = None
        self._failing = False
        self._ended = False

    def tell(self, reloaded: Reloaded) -> None:
        """Write down what the last reload (or the start) did."""
        if self._ended:
            return
        try:
            if self._lock is None:
                self._announce()
            self._write(reloaded)
            self._failing = False
        except (OSError, RefusedError) as error:
            if not self._failing:
                self._failing = True
                logger.warning("`authpool reload` will not hear of this gateway: %s", error)

    def end(self) -> None:
        """Take the file away: this gateway reloads no more."""
        self._ended = True
        for path in (self._path, _lock_of(self._path)):
            with suppress(OSError):
                os.unlink(path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _announce(self) -> None:
        secure_folder(self._folder, inside=True)
        neighbours(self._home)  # clears away what those that were killed have left
        lock = os.open(_lock_of(self._path), _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            give_to_owner(lock, self._folder)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def _write(self, reloaded: Reloaded) -> None:
        document = {
            "pid": os.getpid(),
            "request": reloaded.request,
            "error": reloaded.error,
            "seal_key": reloaded.seal_key,
        }
        replace_file(self._files, self._path, json.dumps(document).encode() + b"\n", lambda: None)


def neighbours(home: Path) -> list[Neighbour]:
    """The gateways that run on the home now; what those that ended without a word left behind is cleared away.

    Raises OSError.
    """
    folder = home / FOLDER
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found = []
    for path in (folder / name for name in names if name.endswith(".json") and not name.startswith(".")):
        if _is_alive(path):
            found.append(_read(path))
        else:
            for left in (path, _lock_of(path)):
                with suppress(OSError):
                    os.unlink(left)
    return found


def _is_alive(path: Path) -> bool:
    """Whether the kernel says that somebody holds the lock beside the file."""
    with _opened(_lock_of(path)) as lock:
        if lock is None:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: Path) -> Neighbour:
    number = path.name.partition("-")[0]
    pid = int(number) if number.isdecimal() else 0
    try:
        document = json.loads(read_private(path))
        reloaded = Reloaded(
            request=int(document["request"]),
            error=str(document["error"]),
            seal_key=str(document.get("seal_key", "")),  # an authpool without sealing has none
        )
    except (OSError, RefusedError, ValueError, TypeError, KeyError):
        reloaded = None
    return Neighbour(file=path.name, pid=pid, reloaded=reloaded)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")
