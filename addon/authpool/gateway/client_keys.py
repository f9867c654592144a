"""The gateway's own clients in a running gateway: followed in the store, their usage written down now and then."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from authpool.clients.client import BrokenClient, ClientEntry
from authpool.clients.gatekeeper import Gatekeeper
from authpool.clients.keyring import Keyring
from authpool.clients.usage import NEVER, Usage
from authpool.clock import Clock
from authpool.errors import AuthpoolError
from authpool.store import Store
from authpool.store.audit import Entry, Process, used_entry

logger = logging.getLogger(__name__)

LOOK_SECONDS = (0.25, 0.6)
"""So often the store is asked: a removal holds within a second. Less often where a look takes its time."""
LOOK_SHARE = 0.1
WRITE_SECONDS = 1.0
"""So often at most the usage is written."""
READ_USAGE_SECONDS = 5.0
TOLD_PAIRS = 10_000
"""So many pairs of client and account are known to be in the audit trail; of more, all are told anew."""
DAY_SECONDS = 86_400


class ClientKeys:
    """Keeps a gatekeeper's keys as the store has them. `ended` is called when something may have come to its end."""

    def __init__(self, store: Store, clock: Clock, note: Callable[[Entry], None], process: Process) -> None:
        """`note` adds to the audit trail."""
        self.gatekeeper = Gatekeeper(clock)
        self.ended: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._note = note
        self._process = process
        self._usage: Mapping[str, Usage] = {}
        self._in_writing: Mapping[str, Usage] = {}
        self._write_at = 0.0
        self._read_usage_at = 0.0
        self._told: dict[tuple[str, str], int] = {}
        self._trouble = ""
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read the clients, before anybody is let in. Raises StoreUnavailableError."""
        self._take_over(await self._store.gateway_clients(), first=True)

    async def follow(self) -> None:
        """Go on reading them, without end."""
        shortest, longest = LOOK_SECONDS
        pause = shortest
        while True:
            await asyncio.sleep(pause)
            began = self._clock.monotonic()
            await self.look()
            pause = min(longest, max(shortest, (self._clock.monotonic() - began) / LOOK_SHARE))

    async def look(self) -> None:
        """Take in what changed, end what is over, and write what was used. Raises nothing."""
        try:
            entries = await self._store.gateway_clients()
            if entries != self.gatekeeper.keyring.entries:
                self._take_over(entries)
            self.ended()
            await self._keep_usage()
            if self._trouble:
                self._trouble = ""
                logger.warning("The gateway's clients can be read again")
        except AuthpoolError as error:
            self.ended()  # what ends by itself does so all the same
            if str(error) != self._trouble:  # once, not every time
                self._trouble = str(error)
                logger.error("The gateway's clients can't be read or counted; their keys are as they were: %s", error)

    async def aclose(self) -> None:
        """Write what was used since it was last written."""
        try:
            await self._write_usage()
        except AuthpoolError as error:
            logger.warning("How much the gateway's clients have used can't be written: %s", error)

    def usage(self, name: str, *, pending: bool = True) -> Usage:
        """How much a client has used, as far as this gateway knows; `pending`: also what is not begun to be written."""
        folded = name.casefold()
        unwritten = [self._in_writing, *([self.gatekeeper.usage.peek()] if pending else [])]
        found = [usage for counts in unwritten for other, usage in counts.items() if other.casefold() == folded]
        return sum(found, self._usage.get(folded, NEVER))

    def used(self, client: str, account: str) -> None:
        """A client was served by an account: the audit trail hears of each such pair once a day."""
        now = self._clock.time()
        if self._told.get((client, account), 0) > now - DAY_SECONDS:
            return
        if len(self._told) >= TOLD_PAIRS:
            self._told.clear()
        self._told[client, account] = int(now)
        self._note(used_entry(account, client, now=now, process=self._process))

    def _take_over(self, entries: Mapping[str, ClientEntry], *, first: bool = False) -> None:
        before, keyring = self.gatekeeper.keyring, Keyring(entries.values())
        self.gatekeeper.replace(keyring)
        for name, entry in entries.items():
            if before.entries.get(name) == entry:
                continue
            if isinstance(entry, BrokenClient):
                # mitmproxy ends when an error is logged while it starts
                level = logging.WARNING if first else logging.ERROR
                logger.log(level, "Skipping broken client %s: %s", entry.name, entry.reason)
            elif not first:
                logger.info("Client %s %s", entry.name, "was removed" if entry.removed else "is as its record says now")
        for name in before.entries.keys() - entries.keys():
            logger.info("Client %s is gone", before.entries[name].name)
        for name in sorted(keyring.doubles - before.doubles):
            logger.warning("Client %s has a key that another client has too: it is good for neither", name)

    async def _keep_usage(self) -> None:
        now = self._clock.monotonic()
        if self.gatekeeper.usage and now >= self._write_at:
            self._write_at = now + WRITE_SECONDS
            self._read_usage_at = 0.0
            await self._write_usage()
        if now >= self._read_usage_at and self.gatekeeper.keyring.entries:
            self._read_usage_at = now + READ_USAGE_SECONDS
            self._usage = await self._store.gateway_usage()

    async def _write_usage(self) -> None:
        if self._writing is not None:  # its caller was cancelled, and left it to end by itself
            await asyncio.wait({self._writing})
        if self.gatekeeper.usage:
            self._writing = asyncio.create_task(self._write(self.gatekeeper.usage.take()), name="write the usage")
            await asyncio.shield(self._writing)

    async def _write(self, counts: Mapping[str, Usage]) -> None:
        self._in_writing = counts
        try:
            await self._store.count_usage(counts)
        except BaseException:
            self.gatekeeper.usage.put_back(counts)
            raise
        else:
            self._usage = {**self._usage, **{name.casefold(): self.usage(name, pending=False) for name in counts}}
        finally:
            self._in_writing = {}
