"""The data keys of one store, wrapped by the operator's key: the document that outlives the processes. Pure.

What it says beside the keys (which one seals from now on, and whether anything is sealed at all) is bound into every
wrapped key, so that nobody changes it who has not the operator's key.
"""

import binascii
import hashlib
import os
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tomli_w
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authpool.store.sealing.sealed_value import NONCE_BYTES, DataKey

VERSION = 1
_COMMENT = """\
# The keys that the accounts' secrets are sealed with, wrapped by the operator's key (`seal_key` in authpool.toml).
# Written by authpool. Without this file nothing that is sealed can be opened: keep it with every copy of the accounts.

"""


class KeyRingError(Exception):
    """The document is none that was written here, or the operator's key does not open it; the text says which."""


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """The key that an operator keeps outside of the store: 256 random bits."""

    secret: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(b"authpool operator's key:" + self.secret).hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The data keys, unwrapped. `current` seals; the others open what was sealed with them before."""

    keys: Mapping[str, DataKey]
    created_at: Mapping[str, int]
    current: str
    sealing: bool = True
    """Whether secrets are sealed from now on; not so once the operator had everything unsealed."""
    openers: tuple[str, ...] = ()
    """The fingerprints of the operator's keys that open the document it was read from."""

    @property
    def sealing_key(self) -> DataKey | None:
        return self.keys[self.current] if self.sealing else None

    def turned(self, *, sealing: bool) -> "KeyRing":
        """Secrets are sealed from now on, or no more; the very same ring where that is so already."""
        return self if self.sealing == sealing else replace(self, sealing=sealing)

    def with_keys_of(self, other: "KeyRing") -> "KeyRing":
        """What is sealed with a key of the other ring can be opened, too."""
        return replace(self, keys={**other.keys, **self.keys}, created_at={**other.created_at, **self.created_at})

    def with_new_key(self, now: float) -> "KeyRing":
        """Values are sealed with a new key from now on; what is sealed already can still be opened."""
        key = DataKey.new()
        return replace(
            self,
            keys={**self.keys, key.id: key},
            created_at={**self.created_at, key.id: int(now)},
            current=key.id,
        )


def new_ring(now: float) -> KeyRing:
    """A first data key."""
    key = DataKey.new()
    return KeyRing(keys={key.id: key}, created_at={key.id: int(now)}, current=key.id)


def wrapped(ring: KeyRing, operators: Sequence[OperatorKey]) -> bytes:
    """The document of the ring, which any of these operator's keys opens, and no other."""
    keys = [
        {
            "id": key.id,
            "created_at": ring.created_at[key.id],
            "wrapped": {one.fingerprint: _wrap(one, key.secret, _bound(key.id, ring)) for one in operators},
        }
        for key in ring.keys.values()
    ]
    document = {"version": VERSION, "sealing": ring.sealing, "current": ring.current, "keys": keys}
    return _COMMENT.encode() + tomli_w.dumps(document).encode()


def unwrapped(content: bytes, operator: OperatorKey) -> KeyRing:
    """Read the document of a ring. Raises KeyRingError."""
    document = _document(content)
    openers = openers_of(document)
    if operator.fingerprint not in openers:
        raise KeyRingError(
            f"it is wrapped by another operator's key (fingerprint {' or '.join(openers)}) than seal_key names "
            f"(fingerprint {operator.fingerprint})"
        )
    ring = KeyRing(
        keys={},
        created_at={one["id"]: one["created_at"] for one in document["keys"]},
        current=document["current"],
        sealing=document["sealing"],
        openers=openers,
    )
    keys = {}
    for one in document["keys"]:
        secret = _unwrap(operator, one["wrapped"][operator.fingerprint], _bound(one["id"], ring))
        keys[one["id"]] = DataKey.of(one["id"], secret)
    return replace(ring, keys=keys)


def is_sealing(content: bytes) -> tuple[bool, str]:
    """What a document says to who can't open it: whether secrets are sealed, with which key. Raises KeyRingError."""
    document = _document(content)
    return document["sealing"], document["current"]


def openers_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The fingerprints of the operator's keys that each of the data keys is wrapped by."""
    found = [frozenset(one["wrapped"]) for one in document["keys"]]
    return tuple(sorted(frozenset.intersection(*found)))


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = tomllib.loads(content.decode())
        if document["version"] != VERSION:
            raise KeyRingError(f"it is of version {document['version']!r}, and this authpool reads version {VERSION}")
        kinds = (bool, str, list)
        if tuple(type(document[name]) for name in ("sealing", "current", "keys")) != kinds:
            raise KeyRingError("it is not as it was written")
        for one in document["keys"]:
            if (type(one["id"]), type(one["created_at"])) != (str, int) or not _are_texts(one["wrapped"]):
                raise KeyRingError("it is not as it was written")
        if document["current"] not in {one["id"] for one in document["keys"]}:
            raise KeyRingError("it is not as it was written")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeyRingError("it is not as it was written") from None
    return document


def _are_texts(table: object) -> bool:
    return isinstance(table, dict) and all(type(value) is str for value in table.values())


def _bound(key_id: str, ring: KeyRing) -> bytes:
    return f"authpool data key {VERSION}:{key_id}:{ring.current}:{'on' if ring.sealing else 'off'}".encode()


def _wrap(operator: OperatorKey, secret: bytes, bound: bytes) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return b64encode(nonce + AESGCM(operator.secret).encrypt(nonce, secret, bound)).decode()


def _unwrap(operator: OperatorKey, value: str, bound: bytes) -> bytes:
    try:
        data = b64decode(value, validate=True)
        return AESGCM(operator.secret).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError, binascii.Error):
        raise KeyRingError("it was changed after it was written, or is damaged") from None
