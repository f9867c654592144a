"""The audit trail of processes that are killed, and what a reader who was there all the time knows of it."""

import json
from contextlib import suppress
from pathlib import Path

from authpool.accounts.events import AccountEvent
from authpool.clock import Clock
from authpool.store.audit import Entry, Process, ProcessKind, entry_of
from authpool.store.folder.trail_files import NAME, TrailFiles
from support.crashing_files import DyingFiles

TRAIL_STEPS = ("before the line", "half a line", "after the line")
"""Where a process may die that writes down what it did: the change itself is on disk by then."""
SMALL_BYTES = 16_384
"""So that files are renamed in a long world, and none is dropped."""


class CrashingTrail(TrailFiles):
    """Appends with a process's own `files`, and dies with it."""

    def __init__(self, home: Path, clock: Clock, kind: ProcessKind, files: DyingFiles) -> None:
        super().__init__(home, rotate_bytes=SMALL_BYTES)
        self._file = home / NAME
        self._files = files
        self._clock = clock
        self._process = Process(pid=1, kind=kind)

    def record(self, event: AccountEvent) -> Entry | None:
        """Write down what happened, as a service does."""
        entry = entry_of(event, now=self._clock.time(), process=self._process)
        if entry is not None:
            self.append(entry)
        return entry

    def write(self, line: bytes) -> None:
        self._files.at("before the line")
        if self._files.step == "half a line":
            with self._file.open("ab") as file:
                file.write(line[: len(line) // 2])
            self._files.at("half a line")
        super().write(line)
        self._files.at("after the line")


def trail_content(home: Path) -> dict[str, bytes]:
    """The files of the trail, by name."""
    return {path.name: path.read_bytes() for path in home.glob(f"{NAME}*")}


def put_trail_back(home: Path, content: dict[str, bytes]) -> None:
    """Let the trail be what it was, as a restored backup does."""
    for path in home.glob(f"{NAME}*"):
        path.unlink()
    for name, data in content.items():
        (home / name).touch(mode=0o600)
        (home / name).write_bytes(data)


class TrailReader:
    """Reads which refresh tokens the trail, as it is now, shows as exchanged for newer ones: their fingerprints."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._read: dict[bytes, frozenset[str]] = {}

    def exchanged(self) -> set[str]:
        contents = trail_content(self._home).values()
        self._read = {content: self._read.get(content) or _exchanged(content) for content in contents}
        return set().union(*self._read.values())


def _exchanged(content: bytes) -> frozenset[str]:
    found = set()
    for line in content.split(b"\n"):
        with suppress(ValueError):  # a part of a line
            found.add(json.loads(line).get("replaced"))
    return frozenset(found - {None})
