"""The audit trail as one process has it: what it writes there, and what it knows of it."""

import os

from authpool.accounts.events import AccountEvent
from authpool.clock import Clock
from authpool.store import Store
from authpool.store.audit import ClientEvent, Entry, Process, ProcessKind, client_entry, entry_of
from authpool.store.trail_index import TrailIndex


class OwnTrail:
    """Each entry is in the store and in `index` at once. `kind` is what the trail calls this process."""

    def __init__(self, store: Store, clock: Clock, kind: ProcessKind) -> None:
        self._store = store
        self._clock = clock
        self.process = Process(pid=os.getpid(), kind=kind)
        self.index = TrailIndex(store)

    def note(self, entry: Entry) -> None:
        self._store.append(entry)
        self.index.note(entry)

    def note_account(self, event: AccountEvent) -> None:
        """Tell of a change in an account's life, after it was written."""
        entry = entry_of(event, now=self._clock.time(), process=self.process)
        if entry is not None:
            self.note(entry)

    def note_client(self, event: ClientEvent, client: str, reason: str) -> None:
        """Tell of a change of a client of the gateway, after it was written."""
        self.note(client_entry(event, client, reason=reason, now=self._clock.time(), process=self.process))

    def latest(self) -> list[Entry]:
        """The newest entries that this process knows of; waits for nothing."""
        return self.index.latest()
