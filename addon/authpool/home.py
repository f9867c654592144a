"""The home: the folder that holds authpool's configuration and secrets, and the rules for what lies in it."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from authpool.errors import RefusedError
from authpool.store.atomic_file import read_private

DEFAULT = "~/.authpool"


def home_folder(option: str | None, environ: Mapping[str, str]) -> Path:
    """Choose the home: the option `authpool_home`, else `AUTHPOOL_HOME`, else ``~/.authpool``.

    Absolute, because a program may change its working directory later; nothing is created or checked here.
    """
    chosen = option or environ.get("AUTHPOOL_HOME") or DEFAULT
    return Path(os.path.abspath(_expand(chosen, environ)))


def _expand(path: str, environ: Mapping[str, str]) -> Path:
    user_home = environ.get("HOME")
    if user_home and (path == "~" or path.startswith("~/")):
        return Path(user_home, path[2:])
    return Path(path).expanduser()


def secure_folder(path: Path) -> None:
    """Create a folder that only its owner can enter (0700), or make sure that an existing one is.

    What lies in it is then out of others' reach, whatever its own mode. A link to a folder is followed.
    Raises RefusedError with the command that puts it right.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except FileExistsError:
        raise RefusedError(f"{path} is not a folder") from None
    except OSError as error:
        raise RefusedError(f"{path} can't be used as a folder: {error.strerror}") from error
    if mode & 0o077:
        raise RefusedError(f"{path} is open to others (mode {stat.S_IMODE(mode):04o}); run: chmod 700 '{path}'")


def read_secret_file(path: Path) -> str:
    """Read a file that holds a secret. Raises RefusedError, naming the file and what to do about it."""
    try:
        return read_private(path).decode()
    except UnicodeDecodeError:
        # Not chained: the error carries the bytes it could not decode.
        raise RefusedError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise RefusedError(f"{path} can't be read: {error.strerror}") from error
