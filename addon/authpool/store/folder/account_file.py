"""An account as the bytes of its TOML file, and back."""

import re
import tomllib

import tomli_w

from authpool.accounts.account import Account
from authpool.accounts.document import Document, account_from_document, document_from_account
from authpool.errors import BrokenAccountError, RefusedError
from authpool.store.folder.plain_toml import parse_plain
from authpool.store.folder.usual_file import parse_usual

_POSITION = re.compile(r"\(at (line \d+, column \d+|end of document)\)\Z")


def parse_account(pool: str, name: str, data: bytes) -> Account:
    """Read the content of the file that `name` (decoded) has in `pool`. Raises BrokenAccountError."""
    text = _text(data)
    usual = parse_usual(pool, name, text)
    return account_from_document(pool, name, _document(text)) if usual is None else usual


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


def dump_account(account: Account) -> bytes:
    """Write the content of an account's file. Raises RefusedError when a value can't be written as text."""
    try:
        return tomli_w.dumps(document_from_account(account)).encode()
    except UnicodeEncodeError:
        raise RefusedError(f"{account.address} can't be stored: a value has lone surrogates") from None
