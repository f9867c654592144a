"""Gateway keys as text: ``authpool_<id>_<secret>_<checksum>``.

The prefix lets scanners of repositories and logs find one that got lost, the checksum tells a typo without a look-up,
and the id says which record the secret's hash is in. The secret has 256 random bits, so a fast hash keeps it.
"""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

PREFIX = "authpool_"
ID_CHARACTERS = 10
SECRET_BYTES = 32
SECRET_CHARACTERS = 43
CHECKSUM_CHARACTERS = 6

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_DIGITS = string.digits + string.ascii_lowercase
PATTERN = (
    rf"{PREFIX}[0-9a-z]{{{ID_CHARACTERS}}}_[0-9A-Za-z]{{{SECRET_CHARACTERS}}}_[0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}}"
)
"""What a scanner for secrets looks for."""
_KEY = re.compile(PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyText:
    """A key that is spelt as one: its id, and the SHA-256 of all of it (hex), which is what is stored."""

    id: str
    sha256: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that was just made; `text` is shown once, and kept nowhere."""

    id: str
    text: str = field(repr=False)

    @property
    def sha256(self) -> str:
        return sha256_of(self.text)


def new_key(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> NewKey:
    """Make a key. `random_bytes` gives so many random bytes."""
    identifier = _encoded(random_bytes(ID_CHARACTERS), ID_CHARACTERS, _ID_DIGITS)
    secret = _encoded(random_bytes(SECRET_BYTES), SECRET_CHARACTERS)
    text = f"{PREFIX}{identifier}_{secret}"
    return NewKey(id=identifier, text=f"{text}_{_checksum(text)}")


def parse_key(text: str) -> KeyText | None:
    """Read a key; None: it is mistyped, cut off, or no key at all."""
    if not _KEY.fullmatch(text):
        return None
    body, _, checksum = text.rpartition("_")
    if checksum != _checksum(body):
        return None
    return KeyText(id=body.split("_")[1], sha256=sha256_of(text))


def sha256_of(text: str) -> str:
    """The hash that is stored, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(text: str) -> str:
    return _encoded(zlib.crc32(text.encode()).to_bytes(4), CHECKSUM_CHARACTERS)


def _encoded(data: bytes, length: int, digits: str = _DIGITS) -> str:
    """The last `length` digits of a number, the most significant one first."""
    number, found = int.from_bytes(data), ""
    for _ in range(length):
        number, digit = divmod(number, len(digits))
        found = digits[digit] + found
    return found
