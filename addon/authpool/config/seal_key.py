"""The operator's key for secrets at rest: where it is, and what a key must be.

256 random bits, and nothing that a person made up: whoever has a copy of the disk can try passphrases at leisure.
"""

import binascii
import importlib
import os
import re
import stat
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authpool.config.config_table import ConfigTable, KeyPath, mistake
from authpool.errors import ConfigurationError, RefusedError
from authpool.files.strict_modes import check_way, trusted_users

KEY_BYTES = 32
PATH: KeyPath = ("gateway", "seal_key")
SERVICE = "authpool"
"""The name under which a keyring keeps the keys."""
HOW_TO_MAKE = "Make one with: head -c 32 /dev/urandom | base64"

_KINDS = ("env:", "file:", "keyring:")
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEX = re.compile(rb"[0-9a-fA-F]{64}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{43}=?")
_FEWEST_VALUES = 16
"""Of 32 random bytes at least so many differ, but once in 10^16 times."""
_TEXT = frozenset(range(0x20, 0x7F)) | set(b"\t\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealKey:
    """Where the operator's key is. Two are equal that name the same place."""

    source: str
    home: Path
    path: KeyPath = PATH
    environ: Mapping[str, str] = field(repr=False, compare=False)

    def resolve(self) -> bytes:
        """Look the key up now: 32 bytes. Raises ConfigurationError."""
        kind, _, name = self.source.partition(":")
        match kind:
            case "env":
                return _checked(self._from_environment(name), self.path)
            case "file":
                return _checked(self._from_file(name), self.path, raw=True)
            case _:
                return _checked(self._from_keyring(name), self.path)

    @property
    def lies_in_home(self) -> bool:
        """Whether whoever copies the home copies the key with it."""
        kind, _, name = self.source.partition(":")
        return kind == "file" and Path(os.path.abspath(self.home / name)).is_relative_to(os.path.abspath(self.home))

    def _from_environment(self, name: str) -> bytes:
        value = self.environ.get(name, "").strip()
        if not value:
            raise mistake(
                self.path,
                f"the environment variable {name} is not set, or is empty.",
                f"Set {name} where this is started, or use file:PATH.",
            )
        return value.encode(errors="surrogateescape")

    def _from_file(self, name: str) -> bytes:
        file = self.home / Path(name)
        try:
            descriptor = os.open(file, _FLAGS)
            with os.fdopen(descriptor, "rb") as opened:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise mistake(self.path, f"{file} is not a regular file.", "Put the key into one.")
                if status.st_uid not in {0, os.geteuid()} and os.geteuid() != 0:
                    raise mistake(self.path, f"{file} belongs to another user.", "Use a file of your own.")
                if _open_to_others(status):
                    mode = stat.S_IMODE(status.st_mode)
                    raise mistake(self.path, f"{file} is open to others (mode {mode:04o}).", f"Run: chmod 400 '{file}'")
                content = opened.read(4096)
            check_way(file, trusted_users(self.home))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = error.strerror if isinstance(error, OSError) else "the file name is impossible"
            raise mistake(
                self.path, f"{file} can't be read: {why}.", "It must be a file that you own, and no link."
            ) from None
        except RefusedError as error:
            raise mistake(self.path, f"{error}.", "Put the key where nobody else can write.") from None
        return content

    def _from_keyring(self, name: str) -> bytes:
        try:
            keyring = importlib.import_module("keyring")
        except ImportError:
            raise mistake(
                self.path, "needs the package `keyring`.", "Install authpool[keyring], or use env:NAME or file:PATH."
            ) from None
        try:
            value = keyring.get_password(SERVICE, name)
        except Exception as error:  # noqa: BLE001 - there are many backends, each with errors of its own
            raise mistake(
                self.path,
                f"the keyring does not answer ({type(error).__name__}).",
                "Unlock it, or use env:NAME or file:PATH.",
            ) from None
        if not value:
            raise mistake(
                self.path,
                f"the keyring has no {name!r} of the service {SERVICE!r}.",
                f"{HOW_TO_MAKE} | keyring set {SERVICE} {name}",
            )
        return str(value).strip().encode()


def read_seal_key(table: ConfigTable, home: Path, environ: Mapping[str, str]) -> SealKey | None:
    """Read where the key is. Raises ConfigurationError for anything but ``env:``, ``file:`` and ``keyring:``."""
    source = table.take_string("seal_key")
    return None if source is None else seal_key(source, home, environ, table.at("seal_key"))


def seal_key(source: str, home: Path, environ: Mapping[str, str], path: KeyPath = PATH) -> SealKey:
    """Where a key is, by a word of the configuration or the command line. Raises ConfigurationError."""
    kind = next((kind for kind in _KINDS if source.startswith(kind)), None)
    if kind is None or not source.removeprefix(kind).strip():
        raise mistake(
            path,
            "does not say where the key is: a key that is written out here would lie beside what it seals.",
            'Write it as "env:NAME", "file:PATH" or "keyring:NAME".',
        )
    if kind == "env:" and not _ENV_NAME.fullmatch(source.removeprefix(kind)):
        raise mistake(path, "names no environment variable after `env:`.", 'Write it as "env:NAME".')
    return SealKey(source=source, home=home, environ=environ, path=path)


def _open_to_others(status: os.stat_result) -> bool:
    """Whether anybody but the owner and root may read a file.

    systemd gives a credential to a unit's user by an access control list, which shows as root's group being able to
    read it (mode 0440).
    """
    others = status.st_mode & 0o077
    by_root_alone = others == stat.S_IRGRP and (status.st_uid, status.st_gid) == (0, 0)
    return bool(others) and not by_root_alone


def _checked(content: bytes, path: KeyPath, *, raw: bool = False) -> bytes:
    """The 32 bytes that a source gives: as hex, as base64, or (`raw`) as they are. Raises ConfigurationError."""
    secret = _decoded(content.strip()) if set(content) <= _TEXT else content if raw else None
    if secret is None or len(secret) != KEY_BYTES:
        raise _no_key(path, "names no key: that is 32 random bytes, in base64 or hex.")
    if len(set(secret)) < _FEWEST_VALUES:
        raise _no_key(path, "names a key that is not random.")
    return secret


def _decoded(text: bytes) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.decode())
    if not _BASE64.fullmatch(text) or text.lower() == text or text.upper() == text:  # words of a passphrase
        return None
    try:
        return b64decode(text.rstrip(b"=") + b"=", altchars=b"-_" if set(text) & set(b"-_") else None, validate=True)
    except (ValueError, binascii.Error):
        return None


def _no_key(path: KeyPath, problem: str) -> ConfigurationError:
    return mistake(path, problem, f"A passphrase can be guessed from a copy of the disk. {HOW_TO_MAKE}")


__all__ = ["HOW_TO_MAKE", "PATH", "SealKey", "read_seal_key", "seal_key"]
