"""A second copy of a home's audit trail, outside of the home.

A home that is put back from a backup as a whole, its trail with it, holds nothing that is newer than the backup. What
was exchanged since is known here: so no spent refresh token is presented. There are no secrets in it.
"""

import os
import pwd
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from authpool.files.file_owner import make_folder_for_owner, make_for_owner
from authpool.store.audit import Entry
from authpool.store.folder.trail_files import TrailFiles, trail_lines

ID_NAME = ".home-id"
"""In a home: which home it is, wherever it is moved or copied. A backup of it has the same one."""
_LATE = b', "late": true}'
_ID = re.compile(r"[0-9a-f]{32}")


class TrailWitness:
    """What was written into one home's trail on this machine, in the folder that `state_folder` tells.

    It is a second line of defence: where it can't be read or written, nothing is said, and nothing else stops.
    """

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self._home = home
        self._environ = environ
        self._trail: TrailFiles | None = None

    def append(self, entry: Entry) -> None:
        """Write down what is written into the home's trail."""
        with suppress(OSError):
            folder = self._folder() if self._trail is None else None
            if folder is not None:
                _make_folders(folder)
                self._trail = TrailFiles(folder)
            if self._trail is not None:
                self._trail.write(entry.line())

    def complete(self, lines: list[bytes]) -> list[bytes]:
        """All lines of the home's trail, with those that it lost in their places."""
        with suppress(OSError):
            folder = self._folder()
            return lines if folder is None else _merged(lines, trail_lines(folder))
        return lines

    def _folder(self) -> Path | None:
        state = state_folder(self._home, self._environ)
        return None if state is None else state / "authpool" / "homes" / self._id()

    def _id(self) -> str:
        """Which home it is, from its first time on. Raises OSError."""
        path = self._home / ID_NAME
        make_for_owner(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if os.fstat(descriptor).st_size == 0:
                file.write(secrets.token_hex(16).encode() + b"\n")
            file.seek(0)
            found = _ID.match(file.read(64).decode("ascii", "replace"))  # of two who wrote, the first one counts
        if found is None:
            raise OSError(0, "it names no home", str(path))
        return found.group()


def state_folder(home: Path, environ: Mapping[str, str]) -> Path | None:
    """Where the programs of the home's owner keep their state (XDG Base Directory Specification), if that can be told.

    Root may work on somebody else's home.
    """
    try:
        owner = home.stat().st_uid
        if owner != os.geteuid():
            return Path(pwd.getpwuid(owner).pw_dir) / ".local" / "state"
    except (OSError, KeyError):
        return None
    named, user_home = Path(environ.get("XDG_STATE_HOME", "")), Path(environ.get("HOME", ""))
    if named.is_absolute():
        return named
    return user_home / ".local" / "state" if user_home.is_absolute() else None


def _merged(lines: list[bytes], witnessed: list[bytes]) -> list[bytes]:
    """Both of them, each in its own order where they agree, else as it was witnessed.

    Each is cut off at its beginning as its own files are rotated, so either may lack the oldest lines of the other.
    Between two lines that both have, what the home lost comes first: what it alone has it got since.
    """
    known = set(witnessed)
    if known.issubset(map(_in_time, lines)):
        return lines
    coming = iter(witnessed)
    merged: list[bytes] = []
    passed: set[bytes] = set()
    own: list[bytes] = []
    for line in lines:
        same = _in_time(line)
        if same not in known:
            own.append(line)
        elif same not in passed:
            lost = list(takewhile(same.__ne__, coming))
            passed.update(lost, (same,))
            merged += [*lost, *own, same]
            own.clear()
    return [*merged, *coming, *own]


def _in_time(line: bytes) -> bytes:
    """A line as it would have been written when it happened: the copy may have got it then."""
    return line.removesuffix(_LATE) + b"}" if line.endswith(_LATE) else line


def _make_folders(path: Path) -> None:
    """Make a folder and those around it, each the property of whom the one around it belongs to. Raises OSError."""
    if path.is_dir():
        return
    _make_folders(path.parent)
    make_folder_for_owner(path)
