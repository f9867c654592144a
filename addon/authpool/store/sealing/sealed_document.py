"""An account's document with its secrets sealed: one line ``sealed = "..."`` in each table that has any. Pure.

What stays readable is what people and other programs go by and what opens nothing: names, times, states and reasons,
scopes, the client's id (RFC 6749 §2.2: no secret), fingerprints. All else is sealed, whatever it is called: nobody but
who wrote it knows what an unknown key holds.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tomli_w

from authpool.accounts.account import AccountKey
from authpool.accounts.document import ACCOUNT_KEYS, PENDING_REFRESH_KEYS, Document
from authpool.errors import BrokenAccountError
from authpool.store.plain_toml import parse_plain
from authpool.store.sealing.sealed_value import DataKey, Place, UnsealError, key_id_of

SEALED = "sealed"
"""The key of the line."""

OWN_MARKS = frozenset({"label", "added_from", "moved_from"})
"""Beside the known keys, what authpool itself writes into a record: a name for people, fingerprints, an address."""

_TABLES: Mapping[str, frozenset[str]] = {
    "token": frozenset({"token_type", "expires_at", "scope"}),
    "client": frozenset({"client_id"}),
    "pending_refresh": PENDING_REFRESH_KEYS,
}
"""What stays readable in each table."""
_RECORD = "account"
"""What the record itself is called as a place: its unknown keys are sealed together, tables too."""
_READABLE = ACCOUNT_KEYS | OWN_MARKS

type Find = Callable[[str], DataKey]
"""From a data key's id to the key. Raises SealedError when it is not at hand."""


def sealed_document(document: Document, account: AccountKey, key: DataKey) -> Document:
    """The same document with its secrets sealed. Raises UnicodeEncodeError for what is no text."""
    generation = document.get("generation", 0)
    top: Document = {}
    hidden: Document = {}
    for name, value in document.items():
        if name in _TABLES and isinstance(value, dict):
            top[name] = _sealed_table(value, _TABLES[name], Place(name, *account, generation), key)
        elif name in _READABLE:
            top[name] = value
        else:
            hidden[name] = value
    if not hidden:
        return top
    scalars = {name: value for name, value in top.items() if not _is_table(value)}
    sealed = key.seal(Place(_RECORD, *account, generation), tomli_w.dumps(hidden).encode())
    return {**scalars, SEALED: sealed, **{name: value for name, value in top.items() if name not in scalars}}


def opened_document(document: Document, account: AccountKey, find: Find) -> Document:
    """The document with what is sealed in it in its place; what stands there in plain counts, somebody wrote it.

    Raises SealedError, BrokenAccountError.
    """
    generation = document.get("generation", 0)
    if type(generation) is not int:
        return document  # whoever reads on says so
    opened = _opened_table(document, Place(_RECORD, *account, generation), find)
    for name in _TABLES:
        table = opened.get(name)
        if isinstance(table, dict) and SEALED in table:
            if opened is document:
                opened = dict(document)
            opened[name] = _opened_table(table, Place(name, *account, generation), find)
    return opened


def sealed_with(document: Document) -> set[str]:
    """The ids of the keys that parts of the document are sealed with."""
    return {key_id for table in _tables(document) if (key_id := key_id_of(table.get(SEALED))) is not None}


def has_plain_secrets(document: Document) -> bool:
    """Whether anything stands in plain that would be sealed."""
    if any(name not in _READABLE and not _is_sealed(name, value) for name, value in document.items()):
        return True
    return any(
        name not in readable and not _is_sealed(name, value)
        for table, readable in _TABLES.items()
        if isinstance(document.get(table), dict)
        for name, value in document[table].items()
    )


def _sealed_table(table: Document, readable: frozenset[str], place: Place, key: DataKey) -> Document:
    hidden = {name: value for name, value in table.items() if name not in readable}
    if not hidden:
        return table
    kept = {name: value for name, value in table.items() if name in readable}
    return {SEALED: key.seal(place, tomli_w.dumps(hidden).encode()), **kept}


def _opened_table(table: Document, place: Place, find: Find) -> Document:
    value = table.get(SEALED)
    key_id = key_id_of(value)
    if key_id is None:
        return table
    try:
        if not key_id:
            raise UnsealError  # noqa: TRY301 - as good as one that does not open
        content = find(key_id).open(place, str(value)).decode()
    except UnsealError:
        where = f"[{place.table}]" if place.table in _TABLES else "the record"
        raise BrokenAccountError(
            f"what is sealed in {where} is damaged, or was sealed for another account or generation: put back the "
            "`name`, `generation` and `sealed` that belong together, or add the account again"
        ) from None
    plain = parse_plain(content)
    hidden = tomllib.loads(content) if plain is None else plain
    return {**hidden, **{name: each for name, each in table.items() if name != SEALED}}


def _tables(document: Document) -> Iterator[Mapping[str, Any]]:
    yield document
    for name in _TABLES:
        if isinstance(table := document.get(name), dict):
            yield table


def _is_sealed(name: str, value: object) -> bool:
    return name == SEALED and key_id_of(value) is not None


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value))
