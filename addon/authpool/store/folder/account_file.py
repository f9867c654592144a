"""An account as the bytes of its TOML file, and back."""

import re
import tomllib

import tomli_w

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.document import Document, account_from_document, document_from_account
from authpool.errors import BrokenAccountError, RefusedError, SealedError
from authpool.store.folder.folder_sealing import FolderSealing
from authpool.store.folder.usual_file import parse_usual
from authpool.store.plain_toml import parse_plain
from authpool.store.sealing.sealed_document import sealed_document, sealed_with
from authpool.store.sealing.sealed_value import PREFIX, DataKey

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
        document = _opened(document, AccountKey.of(pool, name), sealing)
    return account_from_document(pool, name, document)


def _opened(document: Document, key: AccountKey, sealing: FolderSealing | None) -> Document:
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
        return tomllib.loads(text) if plain is None else plain
    except (ValueError, OverflowError, RecursionError) as error:
        # The parser's own words may quote a key, and in a mangled file anything may stand where a key should.
        position = _POSITION.search(str(error))
        raise BrokenAccountError(f"not valid TOML{f' at {position[1]}' if position else ''}") from None


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
