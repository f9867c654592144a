"""The records of clients in a folder's store: one private file per client, ``accounts/.clients/<sha256>.toml``."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from authpool.errors import BrokenAccountError, RefusedError
from authpool.files.atomic_file import FileOperations, Identity, make_folder, replace_file, unavailable
from authpool.files.kernel_lock import hold_now
from authpool.store.client_record import ClientRecord, broken_record, client_from_document, document_from_client
from authpool.store.folder.account_file import parse_toml

logger = logging.getLogger(__name__)

NAME = ".clients"
SUFFIX = ".toml"
_RACY_NS = 50_000_000
"""A file that changed so short a time before it was read may have changed once more within its time stamp's tick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    identity: Identity
    record: ClientRecord
    racy: bool


class ClientFolder:
    """Reads and changes records in worker threads. A record that can't be read stands as a storm that nobody ends."""

    def __init__(self, accounts: Path, files: FileOperations) -> None:
        self.path = accounts / NAME
        self._files = files
        self._seen: dict[str, _Seen] = {}
        self._guard = threading.Lock()

    def read(self, client: str) -> ClientRecord | None:
        """Read a client's record; as long as its file is the same one, that costs a look at its times."""
        with unavailable(self.path):
            return self._look(_file_name(client), client)

    def read_all(self) -> Mapping[str, ClientRecord]:
        """Read every client's record, by the client's name; those that can't be read can't tell whose they are."""
        with unavailable(self.path):
            try:
                names = [name for name in os.listdir(self.path) if name.endswith(SUFFIX) and not name.startswith(".")]
            except FileNotFoundError:
                return {}
            records = [self._look(name, "") for name in names]
        return {record.client: record for record in records if record is not None and record.client}

    def update(
        self, client: str, change: Callable[[ClientRecord | None], ClientRecord]
    ) -> tuple[bool, ClientRecord | None]:
        """Read, change and write one record, as one step that no other comes between.

        The first is whether that was done: not while somebody else has the folder's lock.
        """
        for path in (self.path.parent, self.path):
            make_folder(self._files, path)
        name = _file_name(client)
        with hold_now(self.path / ".lock") as held, unavailable(self.path):
            if not held:
                return False, None
            before = self._look(name, client)
            after = change(before)
            if after != before:
                data = tomli_w.dumps(document_from_client(after)).encode()
                replace_file(self._files, self.path / name, data, lambda: None)
                with self._guard:
                    self._seen.pop(name, None)
        return True, after

    def _look(self, name: str, client: str) -> ClientRecord | None:
        path = self.path / name
        try:
            identity = Identity.of(os.lstat(path))
        except FileNotFoundError:
            with self._guard:
                self._seen.pop(name, None)
            return None
        with self._guard:
            seen = self._seen.get(name)
        if seen is not None and seen.identity == identity and not seen.racy and (seen.record.client or not client):
            return seen.record
        racy = abs(time.time_ns() - identity.ctime_ns) < _RACY_NS
        record = self._parse(path, client, told=seen is not None and seen.identity == identity)
        if record is not None:
            with self._guard:
                self._seen[name] = _Seen(identity=identity, record=record, racy=racy)
        return record

    def _parse(self, path: Path, client: str, *, told: bool) -> ClientRecord | None:
        try:
            record = client_from_document(parse_toml(self._files.read(path)))
        except FileNotFoundError:
            return None
        except (BrokenAccountError, RefusedError, ValueError, PermissionError) as error:
            if not told:
                logger.warning(
                    "%s can't be read (%s): until a refresh of that client succeeds, or `authpool resume POOL`, no "
                    "account of it is disabled",
                    path,
                    "no permission" if isinstance(error, PermissionError) else error,
                )
            return broken_record(client)
        return record if _file_name(record.client) == path.name else broken_record(client)


def _file_name(client: str) -> str:
    return hashlib.sha256(client.encode()).hexdigest()[:16] + SUFFIX
