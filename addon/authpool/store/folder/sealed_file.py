"""A file that is sealed as a whole: what could not be read as an account, and may hold secrets all the same."""

import os
import re
import secrets
import stat
import tomllib
from contextlib import suppress
from pathlib import Path

import tomli_w

from authpool.errors import SealedError
from authpool.files.atomic_file import TEMPORARY_SUFFIX, FileOperations, replace_file
from authpool.store.sealing.sealed_document import SEALED, Find
from authpool.store.sealing.sealed_value import DataKey, Place, UnsealError, key_id_of

MOST_BYTES = 700_000
"""What is longer is no account's file, and sealed it would be longer than a private file may be."""

_ASIDE = re.compile(r"(?P<stem>.+)\.broken(-\d+)?")
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_COMMENT = "# A file that could not be read as an account, sealed as it was; `authpool unseal` opens it.\n"


def is_set_aside(name: str) -> bool:
    """Whether a file of that name is what could not be read, set aside."""
    return aside_of(name) is not None


def aside_of(name: str) -> str | None:
    """The encoded name of the account that a file of that name was set aside of; None: it is another file."""
    match = _ASIDE.fullmatch(name)
    return None if match is None or name.startswith(".") else match["stem"]


def opened_content(path: Path, pool: str, find: Find | None) -> bytes | None:
    """What a file holds, opened where it was set aside and sealed; None: it can't be read, whatever its mode.

    Raises SealedError, UnsealError, StoreUnavailableError.
    """
    content = _content(path)
    stem = aside_of(path.name)
    key_id = None if content is None or stem is None else key_id_of(_value(content))
    if content is None or stem is None or key_id is None:
        return content
    if not key_id:
        raise UnsealError
    if find is None:
        raise SealedError("it is sealed, and authpool.toml has no seal_key")
    return find(key_id).open(_place(pool, stem), str(_value(content)))


def sealed_copy(files: FileOperations, path: Path, pool: str, key: DataKey) -> Path | None:
    """Write what a file holds, sealed, under a temporary name beside it; None: it can't be read, whatever its mode.

    Raises OSError.
    """
    content = _content(path)
    if content is None:
        return None
    copy = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    replace_file(files, copy, _sealed(content, pool, path.stem, key), lambda: None)
    return copy


def rewrite_set_aside(files: FileOperations, path: Path, pool: str, key: DataKey | None, find: Find) -> bool | None:
    """Seal a file that was set aside with this key, or (None) unseal it: whether it was written.

    None: it can't be read, or not be opened. Durable once the caller makes the folder so. Raises OSError, SealedError,
    StoreUnavailableError.
    """
    match = _ASIDE.fullmatch(path.name)
    content = _content(path)
    if content is None or match is None:
        return None
    value = _value(content)
    sealed_with = key_id_of(value)
    if sealed_with == (None if key is None else key.id):
        return False
    if sealed_with == "":
        return None
    if sealed_with is not None:
        try:
            content = find(sealed_with).open(_place(pool, match["stem"]), str(value))
        except UnsealError:
            return None
    if key is not None:
        content = _sealed(content, pool, match["stem"], key)
    replace_file(files, path, content, lambda: None, for_good=False)
    return True


def _sealed(content: bytes, pool: str, stem: str, key: DataKey) -> bytes:
    return (_COMMENT + tomli_w.dumps({SEALED: key.seal(_place(pool, stem), content)})).encode()


def _place(pool: str, stem: str) -> Place:
    return Place("file", pool, stem)


def _value(content: bytes) -> object:
    """What is sealed, where all that the file says is that."""
    with suppress(ValueError, RecursionError):
        document = tomllib.loads(content.decode())
        if document.keys() == {SEALED}:
            return document[SEALED]
    return None


def _content(path: Path) -> bytes | None:
    """What is in a regular file, whoever else may read it; a link is not followed."""
    with suppress(OSError):
        descriptor = os.open(path, _FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES * 2:
                content = file.read()
                return content if len(content) <= MOST_BYTES or _value(content) is not None else None
    return None
