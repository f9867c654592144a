"""An account as the bytes of its TOML file, and back."""

import re
import tomllib
from collections.abc import Iterable

import tomli_w

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.document import Document, account_from_document, document_from_account
from authpool.errors import BrokenAccountError, RefusedError, SealedError
from authpool.store.folder.folder_sealing import FolderSealing
from authpool.store.folder.usual_file import parse_usual
from authpool.store.plain_toml import parse_plain
from authpool.store.sealing.sealed_document import sealed_document, sealed_with
from authpool.store.sealing.sealed_value import PREFIX, DataKey

_MOST_BITS = 14_000
"""A longer number could be read, in hex, and not written: Python has a limit (sys.set_int_max_str_digits)."""
_MOST_LEVELS = 64
"""Deeper documents could be read, and not written again: both are recursive, and writing takes more of the stack."""
_POSITION = re.compile(r"\(at (line \d+, column \d+|end of document)\)\Z")


def parse_account(pool: str, name: str, data: bytes, sealing: FolderSealing | None = None) -> Account:
    """Read the content of the file that `name` (decoded) has in `pool`, and open what is sealed in it.

    Raises BrokenAccountError, SealedError, StoreUnavailableError.
    """
    text = _text(data)
    usual = parse_usual(pool, name, text)
    if usual is not None:
        return usual
    document = _document(text)
    if PREFIX in text:
        document = opened(document, AccountKey.of(pool, name), sealing)
    return account_from_document(pool, name, document)


def opened(document: Document, key: AccountKey, sealing: FolderSealing | None) -> Document:
    """Open what is sealed in a document. Raises SealedError, StoreUnavailableError."""
    if sealing is not None:
        return sealing.opened(document, key)
    if sealed_with(document):
        raise SealedError("it is sealed, and authpool.toml has no seal_key")
    return document


def parse_toml(data: bytes) -> Document:
    """Parse TOML; the error tells where, never what is there. Raises BrokenAccountError."""
    return _document(_text(data))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BrokenAccountError("not UTF-8 text") from None


def _document(text: str) -> Document:
    try:
        plain = parse_plain(text)
        document = tomllib.loads(text) if plain is None else plain
    except (ValueError, OverflowError, RecursionError) as error:
        # The parser's own words may quote a key, and in a mangled file anything may stand where a key should.
        position = _POSITION.search(str(error))
        raise BrokenAccountError(f"not valid TOML{f' at {position[1]}' if position else ''}") from None
    if plain is None:
        _check_writable(document)
    return document


def _check_writable(document: Document) -> None:
    """Make sure that what was read can be written again. Raises BrokenAccountError."""
    values: list[object] = [document]
    for _ in range(_MOST_LEVELS):
        if any(type(value) is int and value.bit_length() > _MOST_BITS for value in values):
            raise BrokenAccountError("it has a number that is too long")
        values = [inner for value in values for inner in _within(value)]
        if not values:
            return
    raise BrokenAccountError("it is nested too deeply")


def _within(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def dump_account(account: Account, key: DataKey | None = None) -> bytes:
    """Write the content of an account's file, with its secrets sealed where there is a key to seal with.

    Raises RefusedError when a value can't be written as text.
    """
    try:
        document = document_from_account(account)
        if key is not None:
            document = sealed_document(document, account.key, key)
        return tomli_w.dumps(document).encode()
    except UnicodeEncodeError:
        raise RefusedError(f"{account.address} can't be stored: a value has lone surrogates") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; hundreds of arrays in each other
        raise RefusedError(f"{account.address} can't be stored: a value is too long or nested too deeply") from None
