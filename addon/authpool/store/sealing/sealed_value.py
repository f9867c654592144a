"""One sealed value: ``authpool1:<id of the data key>:<base64url of nonce, ciphertext and tag>``."""

import binascii
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "authpool1:"
"""The version of the format; it is authenticated with the value."""
KEY_BYTES = 32
NONCE_BYTES = 12
"""Random ones (NIST SP 800-38D §8.2.2): for at most 2^32 values of one data key."""


_KEY_ID = re.compile(r"[0-9a-f]{8}")


class UnsealError(Exception):
    """A value is not what was sealed in that place, or the key is another one."""


class Place(NamedTuple):
    """What a value belongs to; sealed, it can be opened for nothing else.

    `table` is the part of the record, `name` the account's, case-folded, and `generation` that of the credential.
    """

    table: str
    pool: str
    name: str
    generation: int = 0

    def bound(self) -> bytes:
        """The associated data. The name comes last and the pool's length before it: no two places are bound alike."""
        pool, name = self.pool, self.name
        return f"{PREFIX}{self.table}:{self.generation}:{len(pool)}:{pool}:{name}".encode(errors="surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """A key that values are sealed with; `id` names it in every value."""

    id: str
    secret: bytes = field(repr=False)
    _cipher: AESGCM = field(repr=False, compare=False)

    @classmethod
    def of(cls, key_id: str, secret: bytes) -> Self:
        return cls(id=key_id, secret=secret, _cipher=AESGCM(secret))

    @classmethod
    def new(cls) -> Self:
        return cls.of(os.urandom(4).hex(), AESGCM.generate_key(KEY_BYTES * 8))

    def seal(self, place: Place, content: bytes) -> str:
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, content, place.bound())
        return f"{PREFIX}{self.id}:{urlsafe_b64encode(sealed).decode()}"

    def open(self, place: Place, value: str) -> bytes:
        """Answer what was sealed in that place with this key. Raises UnsealError."""
        try:
            sealed = urlsafe_b64decode(value[len(PREFIX) + len(self.id) + 1 :])
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.bound())
        except (InvalidTag, ValueError, binascii.Error):
            raise UnsealError from None


def key_id_of(value: object) -> str | None:
    """With which key something is sealed; None: it is no sealed value; empty: it was one, and is damaged."""
    if not isinstance(value, str) or not value.startswith(PREFIX):
        return None
    key_id = value[len(PREFIX) :].partition(":")[0]
    return key_id if _KEY_ID.fullmatch(key_id) else ""  # whatever else stands there is not to be shown to anybody
