"""Change one account's file, unless somebody else did meanwhile: then start over from what is there."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from authpool.accounts.account import Account, AccountKey, BrokenAccount, SealedAccount
from authpool.accounts.name import check_name, decode_name
from authpool.errors import AuthpoolError, BrokenAccountError, RefusedError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations, Identity, replace_file, unavailable
from authpool.store import Change, Rewritten
from authpool.store.folder.account_file import dump_account, parse_account, parse_toml
from authpool.store.folder.file_index import SUFFIX, Seen, account_file_name
from authpool.store.folder.pool_folder import PoolFolder, record_account
from authpool.store.folder.sealed_file import sealed_copy
from authpool.store.sealing.sealed_document import has_plain_secrets, sealed_with
from authpool.store.sealing.sealed_value import DataKey
from authpool.store.updates_many import Changed

TRIES = 20
_PAUSE_SECONDS = 0.01


class _ChangedMeanwhileError(Exception):
    """The file is no longer what the change started from."""


def change_account(
    folder: PoolFolder, files: FileOperations, key: AccountKey, change: Change, *, replace_broken: bool
) -> Account | None:
    """Carry out `Store.update` in a worker thread, under the lock of the pool folder.

    Raises BrokenAccountError, RefusedError (a name that can't be one), SealedError, StoreUnavailableError.
    """
    for _ in range(TRIES):
        with suppress(_ChangedMeanwhileError):
            return _Attempt(folder, files, key, replace_broken=replace_broken).make(change)
        time.sleep(_PAUSE_SECONDS)
    raise StoreUnavailableError(f"{folder.path}: the file of {key} changes faster than it can be written")


def change_accounts(
    folder: PoolFolder,
    files: FileOperations,
    changes: Mapping[AccountKey, Change],
    decide: Callable[[Mapping[AccountKey, Account | None]], Mapping[AccountKey, Changed]],
) -> dict[AccountKey, Changed]:
    """Carry out `UpdatesMany.update_many` in a worker thread, under the lock of the pool folder.

    `decide` calls the changes, all of them at once; one whose file was changed meanwhile is called again, by itself.
    Raises StoreUnavailableError.
    """
    done: dict[AccountKey, Changed] = {}
    attempts: dict[AccountKey, _Attempt] = {}
    with unavailable(folder.path):
        names = folder.files_of(changes.keys())
    for key in changes:
        try:
            attempts[key] = _Attempt(folder, files, key, replace_broken=True, names=names)
        except (_ChangedMeanwhileError, AuthpoolError) as error:
            done[key] = error
    for key, after in decide({key: attempt.before for key, attempt in attempts.items()}).items():
        try:
            done[key] = after if isinstance(after, Exception) else attempts[key].put(after)
        except (_ChangedMeanwhileError, AuthpoolError, ValueError) as error:
            done[key] = error
    with unavailable(folder.path):
        files.fsync_folder(folder.path)  # once for all of them
    for key, change in changes.items():
        if isinstance(done[key], _ChangedMeanwhileError):
            done[key] = change_account(folder, files, key, change, replace_broken=True)
    return done


def rewrite_account(folder: PoolFolder, files: FileOperations, name: str, key: DataKey | None) -> Rewritten:
    """Write an account's file with its secrets sealed with this key, or (None) in plain, if it is not so already.

    Under the lock of the pool folder. The old form, which can be read as well, may come back after a power cut, until
    the caller makes the folder durable: once for many. Raises StoreUnavailableError.
    """
    for _ in range(TRIES):
        with suppress(_ChangedMeanwhileError), unavailable(folder.path / name):
            return _rewrite(folder, files, name, key)
        time.sleep(_PAUSE_SECONDS)
    raise StoreUnavailableError(f"{folder.path / name} changes faster than it can be written")


def _rewrite(folder: PoolFolder, files: FileOperations, name: str, key: DataKey | None) -> Rewritten:
    seen = folder.look(name)
    if seen is None:
        return "as it was"
    record = seen.record
    if isinstance(record, BrokenAccount) or seen.content is None:
        if seen.racy and not isinstance(record, SealedAccount):  # likely an editor half-way through saving in place
            raise _ChangedMeanwhileError
        return "unreadable"
    document = parse_toml(seen.content)
    in_plain = key is not None and has_plain_secrets(document)
    if not in_plain and sealed_with(document) <= (set() if key is None else {key.id}):
        return "as it was"

    def check() -> None:
        now = folder.look(name)
        if now is None or _differ(now, seen):
            raise _ChangedMeanwhileError

    path = folder.path / name
    data = dump_account(record, key)
    if parse_account(folder.pool, decode_name(name.removesuffix(SUFFIX)), data, folder.sealing) != record:
        return "unreadable"  # before the old content is given up
    replace_file(files, path, data, check, for_good=False)
    folder.note(name, Seen(identity=Identity.of(path.lstat()), record=record, racy=True))
    return "written"


class _Attempt:
    """One pass of read, change, compare and write."""

    def __init__(
        self,
        folder: PoolFolder,
        files: FileOperations,
        key: AccountKey,
        *,
        replace_broken: bool,
        names: Mapping[AccountKey, str | None] | None = None,
    ) -> None:
        """`names` are those of the files of several accounts, that are changed at one go."""
        self._folder = folder
        self._files = files
        self._key = key
        self._of_many = names is not None
        self._target: Path | None = None
        with unavailable(folder.path):
            self._name = folder.file_of(key) if names is None else names[key]
            self._stored = folder.look(self._name) if self._name else None
        self._broken = self._stored is not None and isinstance(self._stored.record, BrokenAccount)
        self._sealing: DataKey | None = None
        if self._stored and self._broken and not replace_broken:
            if self._stored.racy:  # likely an editor half-way through saving in place
                raise _ChangedMeanwhileError
            record_account(self._stored.record)

    @property
    def before(self) -> Account | None:
        """What is stored, as far as it can be read."""
        return None if self._stored is None or self._broken else record_account(self._stored.record)

    def make(self, change: Change) -> Account | None:
        return self.put(change(self.before))

    def put(self, after: Account | None) -> Account | None:
        """Write what shall be there. `before` given back writes nothing."""
        before = self.before
        if after is before and not self._broken:
            return before
        if after is not None and self._stored is not None and isinstance(self._stored.record, SealedAccount):
            record_account(self._stored.record)  # what nobody could look at is not overwritten, by whoever means to
        if after is None:
            self._remove()
            return None
        if after.key != self._key:
            raise ValueError(f"a change of {self._key} returned {after.key}")
        return self._write(self._spelled(after, before))

    def _spelled(self, after: Account, before: Account | None) -> Account:
        """Keep the spelling first seen."""
        return replace(after, name=before.name) if before else after

    def _write(self, account: Account) -> Account:
        check_name(account.name)
        name = self._name or account_file_name(account.name)
        path = self._folder.path / name
        self._target = path if self._of_many else None
        self._sealing = self._folder.sealing.sealing_key() if self._folder.sealing is not None else None
        data = dump_account(account, self._sealing)
        stored = self._read_back(path, data)
        with unavailable(path):
            replace_file(self._files, path, data, self._check, for_good=not self._of_many)
            identity = Identity.of(path.lstat())
        # Racy: between rename and lstat it may have been replaced, so the next sweep reads it once more.
        self._folder.note(name, Seen(identity=identity, record=stored, racy=True))
        return stored

    def _read_back(self, path: Path, data: bytes) -> Account:
        """Make sure that what is written can be read again, before the old content is given up."""
        try:
            name = decode_name(path.name.removesuffix(SUFFIX))
        except ValueError as error:
            raise RefusedError(f"{path}: {error}; rename or remove it") from None
        try:
            return parse_account(self._folder.pool, name, data, self._folder.sealing)
        except BrokenAccountError as error:
            raise ValueError(f"account {self._key} can't be stored: {error}") from error

    def _remove(self) -> None:
        if self._name is None:
            return
        path = self._folder.path / self._name
        with unavailable(path):
            self._check()
            self._files.unlink(path)
            self._files.fsync_folder(path.parent)
        self._folder.note(self._name, None)

    def _check(self) -> None:
        """Compare with what is there now, content and all, and set an unreadable record aside."""
        now = self._folder.look(self._name) if self._name else None
        if now is None and self._stored is None and not self._is_there():
            return
        if now is None or self._stored is None or _differ(now, self._stored):
            raise _ChangedMeanwhileError
        if self._name and self._broken and not isinstance(self._stored.record, SealedAccount):
            self._set_aside(self._folder.path / self._name)

    def _is_there(self) -> bool:
        """Whether the account has a file by now. Of several, that is looked up once: no process comes between."""
        if self._target is not None:
            return os.path.lexists(self._target)
        return self._folder.file_of(self._key) is not None

    def _set_aside(self, path: Path) -> None:
        kept = path
        if self._sealing is not None and self._stored is not None:
            kept = sealed_copy(self._files, path, self._folder.pool, self._sealing) or path
        try:
            self._name_aside(kept, path)
        finally:
            if kept is not path:
                self._files.unlink(kept)

    def _name_aside(self, kept: Path, path: Path) -> None:
        for attempt in range(1, 100):
            aside = path.with_suffix(".broken" if attempt == 1 else f".broken-{attempt}")
            with suppress(FileExistsError):
                self._files.link(kept, aside)
                return
        raise StoreUnavailableError(f"{path}: too many broken records beside it; clear away {path.stem}.broken*")


def _differ(now: Seen, before: Seen) -> bool:
    return now.identity != before.identity or now.content != before.content
