"""An audit trail as a process writes it: events by its clock, into the files of a home."""

import os
from pathlib import Path

from authpool.accounts.events import AccountEvent
from authpool.clock import Clock
from authpool.store.audit import Process, ProcessKind, entry_of
from authpool.store.folder.trail_files import ROTATE_BYTES, TrailFiles


class AuditTrail:
    """Appends what `entry_of` makes of events."""

    def __init__(self, home: Path, clock: Clock, kind: ProcessKind, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.files = TrailFiles(home, rotate_bytes=rotate_bytes)
        self._clock = clock
        self._kind = kind

    def record(self, event: AccountEvent) -> None:
        entry = entry_of(event, now=self._clock.time(), process=Process(pid=os.getpid(), kind=self._kind))
        if entry is not None:
            self.files.append(entry)
