"""A text under a passphrase: the key by scrypt (RFC 7914), the text by AES-256-GCM.

All that is not sealed, the numbers of scrypt among it, is authenticated with the text.
"""

import binascii
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from authpool.errors import RefusedError

FORMAT = "authpool_export"
"""The member that tells such a text from others; its value is the version."""
_VERSION = 1
_N, _R, _P = 1 << 17, 8, 1
"""128 MiB of memory, and half a second, for each passphrase that is tried (OWASP's advice of 2023)."""
_MOST_N, _MOST_R, _MOST_P = 1 << 20, 16, 4
"""A text of somebody else's making must not take all of the memory."""
_SALT_BYTES, _NONCE_BYTES = 16, 12


def seal_text(text: str, passphrase: str) -> str:
    """Seal it: a JSON object, to be opened by `open_text`."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    header = {
        FORMAT: _VERSION,
        "cipher": "aes-256-gcm",
        "kdf": "scrypt",
        "n": _N,
        "r": _R,
        "p": _P,
        "salt": b64encode(salt).decode(),
        "nonce": b64encode(nonce).decode(),
    }
    sealed = AESGCM(_key(passphrase, salt, _N, _R, _P)).encrypt(nonce, text.encode(), _bound(header))
    return json.dumps({**header, "sealed": b64encode(sealed).decode()}, indent=2) + "\n"


def open_text(text: str, passphrase: Callable[[], str]) -> str:
    """Open what `seal_text` has sealed, and leave any other text as it is.

    Raises RefusedError for another passphrase, and for a text that was changed.
    """
    document = _document(text)
    if document is None:
        return text
    try:
        header = {key: value for key, value in document.items() if key != "sealed"}
        n, r, p = (header[key] for key in ("n", "r", "p"))
        if header[FORMAT] != _VERSION or header["kdf"] != "scrypt" or header["cipher"] != "aes-256-gcm":
            raise RefusedError("is an export of a newer authpool: use that one")
        if not (0 < n <= _MOST_N and n & (n - 1) == 0 and 0 < r <= _MOST_R and 0 < p <= _MOST_P and n > 1):
            raise RefusedError("asks for more work, or less, than an export does: it was changed")
        key = _key(passphrase(), b64decode(header["salt"], validate=True), n, r, p)
        nonce, sealed = (b64decode(one, validate=True) for one in (header["nonce"], document["sealed"]))
        return AESGCM(key).decrypt(nonce, sealed, _bound(header)).decode()
    except InvalidTag:
        raise RefusedError("can't be opened: it is another passphrase, or it was changed") from None
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise RefusedError("is no whole export: something of it is missing, or was changed") from None


def _document(text: str) -> dict[str, Any] | None:
    if FORMAT not in text[:4096]:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and FORMAT in document else None


def _key(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase.encode())


def _bound(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
