"""One pool's folder: which file is whose, and what each was like when it was last looked at."""

import errno
import math
import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from authpool.accounts.account import Account, AccountKey, BrokenAccount, SealedAccount
from authpool.accounts.name import decode_name
from authpool.accounts.printable import printable
from authpool.errors import BrokenAccountError, RefusedError, SealedError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations, Identity, unavailable
from authpool.store import Record
from authpool.store.folder.account_file import parse_account
from authpool.store.folder.file_index import SUFFIX, FileIndex, Seen, is_account, is_temporary, shown_name
from authpool.store.folder.folder_sealing import FolderSealing

RACY_NS = 100_000_000
REMOVAL_SECONDS = 0.1
"""An editor that saves by renaming leaves a moment without a file: none is believed gone before this."""
LOOK_SECONDS = 10.0
"""So long somebody waits for another one's look at the same files: of milliseconds, on a disk that works."""
STALE_SECONDS = 86400  # by two clocks, ours and the file server's: they may be hours apart

# What says something about one file; anything else (too many open files, a failing disk) is the store's
# trouble, not an account's.
_FILE_TROUBLE = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO}


class PoolFolder:
    """The account files of one pool. Meant for worker threads; `records` may be read from any thread.

    `now` is the time of any clock that only goes forward, in seconds.
    """

    def __init__(self, pool: str, path: Path, files: FileOperations) -> None:
        self.pool = pool
        self.path = path
        self.sealing: FolderSealing | None = None
        """What seals and opens the files; None: nothing is sealed here."""
        self._files = files
        self._prefix = f"{path}{os.sep}"  # 10,000 times a Path would take a quarter of the time of a load
        self._index = FileIndex(pool)
        self._noted: set[str] = set()
        self._missing: dict[str, float] = {}
        """Since when a file is not there any more, or holds no credential: an editor leaves such a moment."""
        self._young: dict[str, float] = {}
        """When a file was read that is to be read once more, to be sure."""
        self._linked: set[str] = set()
        """Files with another name elsewhere: nobody tells what is written under that one."""
        self._looking = threading.Lock()
        self._guard = threading.Lock()  # never held during file work: `note` must not wait for a look

    @property
    def records(self) -> dict[AccountKey, Record]:
        return self._index.records

    def present(self) -> bool:
        """Whether the folder is there. Raises StoreUnavailableError when it is gone, and held accounts."""
        with unavailable(self.path):
            if self.path.is_dir():
                return True
        if self.records:
            raise StoreUnavailableError(
                f"{self.path} is gone; put it back, or make it anew, empty, if its accounts shall go"
            )
        return False

    def names(self, *, clean: bool = False) -> list[str]:
        """Every file name there is or was, for `look_at`; `clean` clears away what crashes left.

        Raises OSError, StoreUnavailableError.
        """
        listed = os.listdir(self.path) if self.present() else []
        if clean:
            for name in filter(is_temporary, listed):
                self._clear_away(self.path / name)
        with self._guard:
            return list({*filter(is_account, listed), *self._index.files})

    def look_at(self, names: Iterable[str], now: float, *, everything: bool = False) -> list[Seen]:
        """Look at these files, and read those that changed, or all; answers what differs from what was known.

        One that is gone, or holds no credential any more, is believed so at the second look, `REMOVAL_SECONDS` later.
        Raises OSError, StoreUnavailableError.
        """
        if not self._looking.acquire(timeout=LOOK_SECONDS):
            raise StoreUnavailableError(f"{self.path} does not answer")
        try:
            with self._guard:
                self._noted.clear()
            found = {name: self._look_again(name, everything=everything) for name in names if is_account(name)}
            if None in found.values():
                self.present()  # in a folder that was moved away meanwhile nothing is missing
            with self._guard:
                # What an update wrote while this was reading is newer than what was read.
                return self._take_in({n: seen for n, seen in found.items() if n not in self._noted}, now)
        finally:
            self._looking.release()

    def _look_again(self, name: str, *, everything: bool) -> Seen | None:
        """What a file is like now: what is known of it, where that still holds; None: it is gone."""
        try:
            status = os.lstat(f"{self._prefix}{name}")
        except FileNotFoundError:
            return None
        if status.st_nlink > 1:
            self._linked.add(name)
        else:
            self._linked.discard(name)
        identity = Identity.of(status)
        before = self._index.files.get(name)
        if before is not None and not everything and not before.racy and before.identity == identity:
            return before
        seen = self._read(name, identity, keep_content=False)
        if seen is None or before is None or seen.record != before.record:
            return seen
        if not seen.racy and not before.racy and seen.identity == before.identity:
            return before  # it was read all the same, and is not kept twice
        return replace(seen, record=before.record)

    def _take_in(self, found: Mapping[str, Seen | None], now: float) -> list[Seen]:
        fresh: dict[str, Seen | None] = {}
        different: list[Seen] = []
        for name, seen in found.items():
            before = self._index.files.get(name)
            if not self._is_believed(name, before, seen, now):
                continue
            if seen is None:
                fresh[name] = None
            elif seen is not before:
                fresh[name] = seen
                if before is None or before.record != seen.record:
                    different.append(seen)
                if seen.racy:
                    self._young[name] = now
                else:
                    self._young.pop(name, None)
        for name in [name for name, seen in fresh.items() if seen is None]:
            self._forget(name)
        self._index.take_over(fresh)
        return different

    def _is_believed(self, name: str, before: Seen | None, seen: Seen | None, now: float) -> bool:
        if _is_worse(before, seen) and now - self._missing.setdefault(name, now) < REMOVAL_SECONDS:
            return False
        if self._missing:
            self._missing.pop(name, None)
        return seen is not None or before is not None

    def _forget(self, name: str) -> None:
        """A file is gone."""
        self._missing.pop(name, None)
        self._young.pop(name, None)
        self._linked.discard(name)

    @property
    def missing(self) -> Collection[str]:
        """The files that are gone, or hold no credential any more, at the first look."""
        return self._missing.keys()

    @property
    def undecided(self) -> bool:
        """Whether there is a file that is to be looked at once more soon."""
        return bool(self._missing or self._young)

    def due(self, now: float) -> set[str]:
        """The files that are to be looked at once more, now."""
        with self._guard:
            young = {name for name, at in self._young.items() if now - at >= REMOVAL_SECONDS}
            for name in young:
                del self._young[name]
            missing = {name for name, since in self._missing.items() if now - since >= REMOVAL_SECONDS}
            return young | missing | self._linked

    def note(self, name: str, seen: Seen | None) -> None:
        """Take over what was just written under the file name `name`; None: removed."""
        with self._guard:
            self._noted.add(name)
            self._missing.pop(name, None)
            if seen is None:
                self._forget(name)
            elif seen.racy:
                self._young[name] = -math.inf
            self._index.take_over({name: seen})

    @property
    def has_changed(self) -> bool:
        return self._index.has_changed

    def drain(self) -> set[AccountKey]:
        """Tell, once, the accounts that differ from what they were."""
        with self._guard:
            return self._index.drain()

    def look(self, name: str) -> Seen | None:
        """Read one file as it is now, whatever is known of it; None: it is gone. Raises OSError."""
        try:
            identity = Identity.of(os.lstat(self.path / name))
        except FileNotFoundError:
            return None
        return self._read(name, identity, keep_content=True)

    def file_of(self, key: AccountKey) -> str | None:
        """Find the account's file, where the last sweep saw it, else by looking. Raises OSError."""
        return self.files_of([key])[key]

    def files_of(self, keys: Collection[AccountKey]) -> dict[AccountKey, str | None]:
        """As `file_of`, for several accounts at one look."""
        found: dict[AccountKey, str | None] = {}
        for key in keys:
            with self._guard:
                known = self._index.primary(key)
            found[key] = known if known and os.path.lexists(self.path / known) else None
        sought = {key for key, name in found.items() if name is None}
        if sought and self.present():
            listed = set(os.listdir(self.path))
            with self._guard:  # most names are known, and need not be decoded again: there may be thousands
                others = [name for name in listed.difference(self._index.files) if is_account(name)]
                unknown = [(self._index.key(name), name) for name in others]
                noted = [(key, name) for key in sought for name in self._index.names(key) if name in listed]
            found.update(sorted((one for one in (*noted, *unknown) if one[0] in sought), reverse=True))
        return found

    def _clear_away(self, path: Path) -> None:
        """Remove what a writer that died left behind, once it is too old for a living one's."""
        with suppress(OSError):
            if path.lstat().st_mtime < time.time() - STALE_SECONDS:
                self._files.unlink(path)

    def _read(self, name: str, identity: Identity, *, keep_content: bool) -> Seen | None:
        racy = abs(time.time_ns() - identity.ctime_ns) < RACY_NS
        content = None
        record: Record
        try:
            content = self._files.read(f"{self._prefix}{name}")
            record = parse_account(self.pool, decode_name(name.removesuffix(SUFFIX)), content, self.sealing)
        except FileNotFoundError:
            return None
        except SealedError as error:
            record = SealedAccount(pool=self.pool, name=shown_name(name), reason=str(error))
        except (BrokenAccountError, RefusedError, ValueError) as error:
            record = self._broken(name, str(error))
        except OSError as error:
            if error.errno not in _FILE_TROUBLE:
                raise
            record = self._broken(name, f"can't be read: {error.strerror}")
        return Seen(identity=identity, record=record, racy=racy, content=content if keep_content else None)

    def _broken(self, name: str, reason: str) -> BrokenAccount:
        return BrokenAccount(pool=self.pool, name=shown_name(name), reason=printable(reason))


def _is_worse(before: Seen | None, seen: Seen | None) -> bool:
    """Whether a file is gone, or holds no account or credential any more: an editor is half-way through, most often."""
    if before is None or (seen is not None and not _has_credential(before.record)):
        return False
    return seen is None or not _has_credential(seen.record)


def _has_credential(record: Record) -> bool:
    if isinstance(record, BrokenAccount):
        return False
    token = record.token
    return bool(token.refresh_token or token.access_token or record.client)


def record_account(record: Record) -> Account:
    """Tell the account itself. Raises BrokenAccountError, naming it, when its record can't be read, or SealedError."""
    if isinstance(record, SealedAccount):
        raise SealedError(f"{record.address}: {record.reason}")
    if isinstance(record, BrokenAccount):
        raise BrokenAccountError(f"{record.address}: {record.reason}")
    return record
