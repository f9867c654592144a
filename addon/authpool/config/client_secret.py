"""Where a client secret comes from: ``env:NAME``, ``file:PATH``, or the value itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authpool.config.config_table import KeyPath, mistake
from authpool.errors import RefusedError
from authpool.files.home import read_secret_file
from authpool.files.strict_modes import check_way, trusted_users

_ENV = "env:"
_FILE = "file:"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIVATE = "It must be a regular file of yours alone (mode 0600) that holds the secret and nothing else."


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a secret is, for who may never need it: verbs that ask no token endpoint work without."""

    source: str = field(repr=False)
    path: KeyPath
    home: Path
    environ: Mapping[str, str] = field(repr=False, compare=False)

    def resolve(self) -> str:
        """Look the secret up now. Raises ConfigurationError, as `resolve_secret`."""
        return resolve_secret(self.source, self.path, self.home, self.environ)


def is_literal(source: str) -> bool:
    """Whether the secret stands in authpool.toml itself."""
    return not source.startswith((_ENV, _FILE))


def resolve_secret(source: str, path: KeyPath, home: Path, environ: Mapping[str, str]) -> str:
    """Answer the secret that `source` names; a relative PATH starts at the home. Raises ConfigurationError.

    Space and line ends around the secret in a file are dropped: editors and `echo` put them there.
    """
    if source.startswith(_ENV):
        return _from_environment(source.removeprefix(_ENV), path, environ)
    if source.startswith(_FILE):
        return _from_file(source.removeprefix(_FILE), path, home)
    return source


def _from_environment(name: str, path: KeyPath, environ: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        raise mistake(path, "names no environment variable after `env:`.", 'Write it as "env:NAME".')
    secret = environ.get(name, "").strip()
    if not secret:
        raise mistake(
            path,
            f"the environment variable {name} is not set, or is empty.",
            f"Set {name} where the gateway starts, or use file:PATH.",
        )
    return secret


def _from_file(name: str, path: KeyPath, home: Path) -> str:
    if not name.strip():
        raise mistake(path, "names no file after `file:`.", 'Write it as "file:PATH".')
    file = home / Path(name)
    try:
        secret = read_secret_file(file).strip()
        check_way(file, trusted_users(home))
    except (RefusedError, ValueError) as error:  # ValueError: a NUL in the name
        detail = error if isinstance(error, RefusedError) else "the file name is impossible"
        raise mistake(path, f"{detail}.", _PRIVATE) from None
    if not secret:
        raise mistake(path, f"{file} is empty.", _PRIVATE)
    return secret
