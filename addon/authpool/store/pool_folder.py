"""One pool's folder: which file is whose, and what each was like when it was last looked at."""

import errno
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from authpool.account import Account, AccountKey, BrokenAccount
from authpool.errors import BrokenAccountError, RefusedError, StoreUnavailableError
from authpool.store import Record
from authpool.store.account_file import parse_account
from authpool.store.account_name import decode_name, encode_name
from authpool.store.atomic_file import TEMPORARY_SUFFIX, FileOperations, Identity, unavailable

SUFFIX = ".toml"
RACY_NS = 100_000_000
STALE_SECONDS = 86400  # by two clocks, ours and the file server's: they may be hours apart

# What says something about one file; anything else (too many open files, a failing disk) is the store's
# trouble, not an account's.
_FILE_TROUBLE = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A file as it was read.

    `racy`: read so soon after its last change that another one may bear the same time stamps (what git calls
    a racily clean index entry). `content` is None when it could not be read; it is kept out of the index.
    """

    identity: Identity
    record: Record
    racy: bool
    content: bytes | None = field(default=None, repr=False)


class PoolFolder:
    """The account files of one pool. Meant for worker threads; `records` may be read from any thread."""

    def __init__(self, pool: str, path: Path, files: FileOperations) -> None:
        self.pool = pool
        self.path = path
        self.records: dict[AccountKey, Record] = {}
        self._files = files
        self._prefix = f"{path}{os.sep}"  # 10,000 times a Path would take a quarter of the time of a load
        self._seen: dict[str, Seen] = {}
        self._names: defaultdict[AccountKey, set[str]] = defaultdict(set)
        self._changed: set[AccountKey] = set()
        self._noted: set[str] = set()
        self._sweeping = threading.Lock()
        self._guard = threading.Lock()  # never held during file work: `note` must not wait for a sweep

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

    def sweep(self, *, everything: bool = False) -> None:
        """Look at every file, and read those that changed; or all of them, clearing away what crashes left.

        Raises OSError, StoreUnavailableError; nothing is taken over then.
        """
        with self._sweeping:
            with self._guard:
                self._noted.clear()
            there = self._scan(clean=everything) if self.present() else {}
            fresh: dict[str, Seen | None] = dict.fromkeys(self._seen.keys() - there.keys())
            for name, identity in there.items():
                before = self._seen.get(name)
                if everything or before is None or before.racy or before.identity != identity:
                    fresh[name] = self._read(name, identity, keep_content=False)
            with self._guard:
                # What an update wrote while this sweep was reading is newer than what the sweep read.
                self._take_over({name: seen for name, seen in fresh.items() if name not in self._noted})

    def note(self, name: str, seen: Seen | None) -> None:
        """Take over what was just written under the file name `name`; None: removed."""
        with self._guard:
            self._noted.add(name)
            self._take_over({name: seen})

    @property
    def has_changed(self) -> bool:
        return bool(self._changed)

    def drain(self) -> set[AccountKey]:
        """Tell, once, the accounts that differ from what they were."""
        with self._guard:
            changed, self._changed = self._changed, set()
            return changed

    def look(self, name: str) -> Seen | None:
        """Read one file as it is now, whatever is known of it; None: it is gone. Raises OSError."""
        try:
            identity = Identity.of(os.lstat(self.path / name))
        except FileNotFoundError:
            return None
        return self._read(name, identity, keep_content=True)

    def file_of(self, key: AccountKey) -> str | None:
        """Find the account's file, where the last sweep saw it, else by looking. Raises OSError."""
        if (known := self._primary(key)) and os.path.lexists(self.path / known):
            return known
        if not self.present():
            return None
        return min((n for n in os.listdir(self.path) if _is_account(n) and self._key(n) == key), default=None)

    def _scan(self, *, clean: bool) -> dict[str, Identity]:
        there = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if _is_account(entry.name):
                    with suppress(FileNotFoundError):  # gone since it was listed
                        there[entry.name] = Identity.of(entry.stat(follow_symlinks=False))
                elif clean and _is_temporary(entry.name):
                    self._clear_away(entry)
        return there

    def _clear_away(self, entry: os.DirEntry[str]) -> None:
        """Remove what a writer that died left behind, once it is too old for a living one's."""
        with suppress(OSError):
            if entry.stat(follow_symlinks=False).st_mtime < time.time() - STALE_SECONDS:
                self._files.unlink(Path(entry.path))

    def _read(self, name: str, identity: Identity, *, keep_content: bool) -> Seen | None:
        racy = abs(time.time_ns() - identity.ctime_ns) < RACY_NS
        content = None
        record: Record
        try:
            content = self._files.read(f"{self._prefix}{name}")
            record = parse_account(self.pool, decode_name(name.removesuffix(SUFFIX)), content)
        except FileNotFoundError:
            return None
        except (BrokenAccountError, RefusedError, ValueError) as error:
            record = self._broken(name, str(error))
        except OSError as error:
            if error.errno not in _FILE_TROUBLE:
                raise
            record = self._broken(name, f"can't be read: {error.strerror}")
        return Seen(identity=identity, record=record, racy=racy, content=content if keep_content else None)

    def _broken(self, name: str, reason: str) -> BrokenAccount:
        return BrokenAccount(pool=self.pool, name=_shown_name(name), reason=reason)

    def _key(self, name: str) -> AccountKey:
        return AccountKey.of(self.pool, _shown_name(name))

    def _primary(self, key: AccountKey) -> str | None:
        with self._guard:
            return min(self._names.get(key, ()), default=None)

    def _take_over(self, fresh: Mapping[str, Seen | None]) -> None:
        touched = set()
        for name, seen in fresh.items():
            known = seen or self._seen.get(name)
            key = known.record.key if known else self._key(name)
            touched.add(key)
            if seen is None:
                self._seen.pop(name, None)
                self._names[key].discard(name)
            else:
                self._seen[name] = seen
                if name not in self._names[key]:
                    self._names[key].add(name)
                    self._warn_of_namesakes(key)
        for key in touched:
            self._settle(key)

    def _settle(self, key: AccountKey) -> None:
        names = self._names[key]
        if not names:
            del self._names[key]
        record = self._seen[min(names)].record if names else None
        if record == self.records.get(key):
            return
        self._changed.add(key)
        if record is None:
            del self.records[key]
        else:
            self.records[key] = record

    def _warn_of_namesakes(self, key: AccountKey) -> None:
        first, *others = sorted(self._names[key])
        if others:
            logger.warning("Account %s is what %s says; ignoring its namesake %s", key, ascii(first), ascii(others))


def account_file_name(name: str) -> str:
    """Tell the file name of a new account."""
    return f"{encode_name(name)}{SUFFIX}"


def _is_account(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


def _shown_name(file_name: str) -> str:
    """Tell the account's name, or what can be shown of a file name that is no account's."""
    stem = file_name.removesuffix(SUFFIX)
    try:
        return decode_name(stem)
    except ValueError:
        return stem.encode("ascii", "backslashreplace").decode()


def record_account(record: Record) -> Account:
    """Tell the account itself. Raises BrokenAccountError, naming it, when its record can't be read."""
    if isinstance(record, BrokenAccount):
        raise BrokenAccountError(f"{record.address}: {record.reason}")
    return record
