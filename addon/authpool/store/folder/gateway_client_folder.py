"""The gateway's own clients in a folder's store: one private file per client, ``clients/<client>.toml`` of a home.

They are nothing to do with `client_folder`, which keeps what is known of OAuth clients.
"""

import logging
import os
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from authpool.clients.client import NAME, BrokenClient, ClientEntry, GatewayClient
from authpool.clients.document import client_from_document, document_from_client
from authpool.clients.usage import Usage
from authpool.errors import BrokenAccountError, BrokenClientError, RefusedError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations, Identity, make_folder, replace_file, unavailable
from authpool.files.kernel_lock import hold_now
from authpool.store.folder.account_file import parse_toml

logger = logging.getLogger(__name__)

NAME_OF_FOLDER = "clients"
SUFFIX = ".toml"
USAGE = ".usage.toml"
SETTLED_SECONDS = 0.2
"""A file that is gone, or can't be read any more, is believed to be so after this: an editor may be saving it."""
_RACY_NS = 100_000_000
_TRIES = 20
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A file as it was read. `racy`: it may have changed once more within its time stamp's tick."""

    identity: Identity
    entry: ClientEntry
    racy: bool


class _ChangedMeanwhileError(Exception):
    """The file is no longer what the change started from."""


class GatewayClientFolder:
    """Reads and changes clients in worker threads."""

    def __init__(self, home: Path, files: FileOperations) -> None:
        self.path = home / NAME_OF_FOLDER
        self._prefix = f"{self.path}{os.sep}"  # a Path for each of many files would take most of the time of a look
        self._files = files
        self._seen: dict[str, _Seen] = {}
        self._told: Mapping[str, ClientEntry] = {}
        self._doubtful: dict[str, float] = {}
        """Since when (monotonic seconds) a file is not as it was, and not as it should be."""
        self._guard = threading.Lock()

    def read_all(self) -> Mapping[str, ClientEntry]:
        """Read every client, by its folded name. As long as a file is the same one, that costs a look at its times."""
        with self._guard, unavailable(self.path):
            try:
                names = {name for name in os.listdir(self.path) if _is_client(name)}
            except FileNotFoundError:
                if self._seen:
                    raise StoreUnavailableError(
                        f"{self.path} is gone; put it back, or make it anew, empty, if its clients shall go"
                    ) from None
                return {}
            if names == self._seen.keys() and all(map(self._is_same, names)):  # as nearly always
                return self._told
            for name in sorted(names | self._seen.keys()):
                self._look_again(name)
            found: dict[str, ClientEntry] = {}
            for name in sorted(self._seen):
                found.setdefault(_folded(name), self._seen[name].entry)
            self._told = found
            return found

    def update(
        self,
        client: str,
        change: Callable[[GatewayClient | None], GatewayClient | None],
        *,
        replace_broken: bool = False,
    ) -> tuple[bool, GatewayClient | None]:
        """Read, change and write one client, as one step that no other comes between.

        The first is whether that was done: not while somebody else has the folder's lock.
        """
        if not self.path.is_dir():
            with self._guard:
                if self._seen:
                    raise StoreUnavailableError(f"{self.path} is gone; put it back")
            make_folder(self._files, self.path)
        with hold_now(self.path / ".lock") as held:
            if not held:
                return False, None
            for _ in range(_TRIES):
                with suppress(_ChangedMeanwhileError):
                    return True, self._change(client, change, replace_broken=replace_broken)
                time.sleep(_PAUSE_SECONDS)
        raise StoreUnavailableError(f"{self.path}: the file of {client} changes faster than it can be written")

    def count_usage(self, counts: Mapping[str, Usage]) -> tuple[bool, None]:
        """Add to what is written of each client's usage; nobody becomes a client by it."""
        if not self.path.is_dir():
            return True, None
        with hold_now(self.path / ".lock") as held, unavailable(self.path):
            if not held:
                return False, None
            known = {_folded(name) for name in os.listdir(self.path) if _is_client(name)}
            before = self._read_usage()
            added = {name.casefold(): usage for name, usage in counts.items()}
            total = {
                name: before.get(name, Usage()) + added.get(name, Usage()) for name in before.keys() | added.keys()
            }
            document = {
                name: {"last_used_at": usage.last_used_at, "requests": usage.requests, "refused": usage.refused}
                for name, usage in sorted(total.items())
                if name in known
            }
            replace_file(self._files, self.path / USAGE, tomli_w.dumps(document).encode(), lambda: None)
        return True, None

    def usage(self) -> Mapping[str, Usage]:
        """How much each client has used the gateway, by its folded name."""
        with unavailable(self.path):
            return self._read_usage()

    # --- reading ----------------------------------------------------------------------------------------------

    def _is_same(self, name: str) -> bool:
        seen = self._seen[name]
        if seen.racy or self._doubtful:
            return False
        try:
            return Identity.of(os.lstat(f"{self._prefix}{name}")) == seen.identity
        except FileNotFoundError:
            return False

    def _look_again(self, name: str) -> None:
        """Take in what a file is now; while it is neither well nor surely gone or broken, what it was."""
        before = self._seen.get(name)
        seen = self._look(name, before)
        if seen is before and before is not None:
            self._doubtful.pop(name, None)
            return
        doubtful = seen is None or isinstance(seen.entry, BrokenClient)
        if doubtful and before is not None and isinstance(before.entry, GatewayClient):
            now = time.monotonic()
            if now - self._doubtful.setdefault(name, now) < SETTLED_SECONDS:
                return
        self._doubtful.pop(name, None)
        if seen is None:
            self._seen.pop(name, None)
        else:
            self._seen[name] = seen

    def _look(self, name: str, before: _Seen | None = None) -> _Seen | None:
        path = f"{self._prefix}{name}"
        try:
            identity = Identity.of(os.lstat(path))
        except FileNotFoundError:
            return None
        if before is not None and before.identity == identity and not before.racy:
            return before
        racy = abs(time.time_ns() - identity.ctime_ns) < _RACY_NS
        entry: ClientEntry
        try:
            entry = _parsed(name, self._files.read(path))
        except FileNotFoundError:
            return None
        except PermissionError:
            entry = BrokenClient(name=_shown(name), reason=f"{path}: no permission to read it")
        except (RefusedError, ValueError) as error:
            entry = BrokenClient(name=_shown(name), reason=str(error))
        return _Seen(identity=identity, entry=entry, racy=racy)

    def _read_usage(self) -> dict[str, Usage]:
        path = self.path / USAGE
        try:
            document = tomllib.loads(self._files.read(path).decode())
            return {
                name: Usage(
                    requests=int(one["requests"]), refused=int(one["refused"]), last_used_at=int(one["last_used_at"])
                )
                for name, one in document.items()
            }
        except FileNotFoundError:
            return {}
        except (RefusedError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            logger.warning("%s can't be read: the usage of the gateway's clients is counted anew", path)
            return {}

    # --- writing ----------------------------------------------------------------------------------------------

    def _change(
        self, client: str, change: Callable[[GatewayClient | None], GatewayClient | None], *, replace_broken: bool
    ) -> GatewayClient | None:
        with unavailable(self.path):
            name = self._file_of(client)
            stored = self._look(name) if name else None
            before: GatewayClient | None = None
            broken = stored is not None and isinstance(stored.entry, BrokenClient)
            if stored is not None and isinstance(stored.entry, GatewayClient):
                before = stored.entry
            elif stored is not None and isinstance(stored.entry, BrokenClient) and not replace_broken:
                raise BrokenClientError(f"{stored.entry.name}: {stored.entry.reason}")
            after = change(before)
            if after is before and not broken:
                return before
            if after is None:
                self._remove(name, stored)
                return None
            name = name or f"{after.name}{SUFFIX}"
            self._write(name, after, stored)
            return after

    def _file_of(self, client: str) -> str | None:
        folded = client.casefold()
        names = [name for name in os.listdir(self.path) if _is_client(name) and _folded(name) == folded]
        return min(names, default=None)

    def _write(self, name: str, client: GatewayClient, stored: _Seen | None) -> None:
        data = tomli_w.dumps(document_from_client(client)).encode()
        if _parsed(name, data) != client:
            raise ValueError("the client can't be read again as it would be written")
        replace_file(self._files, self.path / name, data, lambda: self._check(name, stored))

    def _remove(self, name: str | None, stored: _Seen | None) -> None:
        if name is None:
            return
        self._check(name, stored)
        self._files.unlink(self.path / name)
        self._files.fsync_folder(self.path)
        with self._guard:  # no editor is saving it: it is gone at once
            self._seen.pop(name, None)
            self._told = {folded: entry for folded, entry in self._told.items() if folded != _folded(name)}

    def _check(self, name: str, stored: _Seen | None) -> None:
        now = self._look(name)
        if (None if now is None else (now.identity, now.entry)) != (
            None if stored is None else (stored.identity, stored.entry)
        ):
            raise _ChangedMeanwhileError


def _parsed(name: str, data: bytes) -> GatewayClient:
    """Read a file's content. Raises ValueError, fit to be shown."""
    try:
        document = parse_toml(data)
    except BrokenAccountError as error:
        reason = str(error)
        raise ValueError(reason if reason.startswith("it ") else f"it is {reason}") from None
    client = client_from_document(document)
    if client.name.casefold() != _folded(name):
        raise ValueError("its `name` is another one than the file's")
    return client


def _is_client(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")


def _folded(name: str) -> str:
    return name.removesuffix(SUFFIX).casefold()


def _shown(name: str) -> str:
    stem = name.removesuffix(SUFFIX)
    return stem if NAME.fullmatch(stem) else ascii(stem)
