"""Which file of a pool's folder is whose, and which accounts differ from what was told of them."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from authpool.accounts.account import AccountKey
from authpool.accounts.name import decode_name, encode_name
from authpool.files.atomic_file import TEMPORARY_SUFFIX, Identity
from authpool.store import Record

SUFFIX = ".toml"
OLD_NS = 3_000_000_000

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

    @property
    def old(self) -> bool:
        """Whether its last change is so long ago that everybody who follows was told of it."""
        return time.time_ns() - self.identity.ctime_ns > OLD_NS


class FileIndex:
    """The files of one pool by name, and its accounts. Not for several threads at once, but for `records`."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self.files: dict[str, Seen] = {}
        self.records: dict[AccountKey, Record] = {}
        self._names: dict[AccountKey, tuple[str, ...]] = {}
        """The names of an account's files, the one that counts first."""
        self._changed: set[AccountKey] = set()

    @property
    def has_changed(self) -> bool:
        return bool(self._changed)

    def drain(self) -> set[AccountKey]:
        """Tell, once, the accounts that differ from what they were."""
        changed, self._changed = self._changed, set()
        return changed

    def primary(self, key: AccountKey) -> str | None:
        """The name of the file that says what an account is."""
        names = self._names.get(key)
        return names[0] if names else None

    def names(self, key: AccountKey) -> tuple[str, ...]:
        """The names of an account's files, as far as they are known."""
        return self._names.get(key, ())

    def key(self, name: str) -> AccountKey:
        """Whose file `name` is."""
        return AccountKey.of(self._pool, shown_name(name))

    def take_over(self, fresh: Mapping[str, Seen | None]) -> None:
        """Files are like this now; None: gone."""
        touched: dict[AccountKey, None] = {}
        for name, seen in fresh.items():
            known = seen or self.files.get(name)
            key = known.record.key if known else self.key(name)
            touched[key] = None
            if seen is not None:
                self.files[name] = seen
                self._add_name(key, name)
            else:
                self.files.pop(name, None)
                self._names[key] = tuple(other for other in self._names.get(key, ()) if other != name)
        for key in touched:
            self._settle(key)

    def _add_name(self, key: AccountKey, name: str) -> None:
        names = self._names.get(key)
        if names is None:
            self._names[key] = (name,)
        elif name not in names:
            first, *others = self._names[key] = tuple(sorted((*names, name)))
            if others:
                logger.warning("Account %s is what %s says; ignoring its namesake %s", key, ascii(first), ascii(others))

    def _settle(self, key: AccountKey) -> None:
        names = self._names[key]
        if not names:
            del self._names[key]
        record = self.files[names[0]].record if names else None
        before = self.records.get(key)
        if record == before:
            return
        self._changed.add(key)
        if record is None:
            del self.records[key]
        else:
            self.records[key] = record


def account_file_name(name: str) -> str:
    """Tell the file name of a new account."""
    return f"{encode_name(name)}{SUFFIX}"


def is_account(name: str) -> bool:
    """Whether a file of that name is an account's."""
    return name.endswith(SUFFIX) and not name.startswith(".")


def is_temporary(name: str) -> bool:
    """Whether a file of that name is one that a writer left, or is about to rename."""
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


def shown_name(file_name: str) -> str:
    """Tell the account's name, or what can be shown of a file name that is no account's."""
    stem = file_name.removesuffix(SUFFIX)
    try:
        return decode_name(stem)
    except ValueError:
        return stem.encode("unicode_escape").decode()
