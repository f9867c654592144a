"""The home: the folder that holds authpool's configuration and secrets, and the rules for what lies in it."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from authpool.errors import RefusedError
from authpool.files.atomic_file import read_private
from authpool.files.file_owner import make_folder_for_owner
from authpool.files.strict_modes import check_entry, check_way, trusted_users, user_name

DEFAULT = "~/.authpool"
INSIDE = ("accounts", "addon", "addon.py", "audit.jsonl", "clients", "plugins", "run", "unclaimed")
"""What a home may hold, as its own or by a link, and others must not be able to exchange."""
_PACKAGE = Path(__file__).resolve().parents[1]


def home_folder(option: str | None, environ: Mapping[str, str]) -> Path:
    """Choose the home: the option `authpool_home`, else `AUTHPOOL_HOME`, else ``~/.authpool``.

    Absolute, because a program may change its working directory later; nothing is created or checked here.
    Raises RefusedError when it can't be told.
    """
    chosen = option or environ.get("AUTHPOOL_HOME") or DEFAULT
    if "\x00" in chosen:
        raise RefusedError("the home's name has a NUL in it: give another one, with --home or AUTHPOOL_HOME")
    try:
        return Path(os.path.abspath(_expand(chosen, environ)))
    except OSError as error:
        raise RefusedError(
            f"the home {chosen} is relative to a working directory that is gone ({error.strerror}): "
            "give it as an absolute path"
        ) from None


def home_of_loader(loader: str | None) -> str:
    """The home that a script for mitmproxy lies in; nothing for the one of the package, which is for any home."""
    if loader is None:
        return ""
    path = Path(loader).resolve()
    return "" if path.is_relative_to(_PACKAGE) else str(path.parent)


def _expand(path: str, environ: Mapping[str, str]) -> Path:
    user_home = environ.get("HOME")
    if user_home and (path == "~" or path.startswith("~/")):
        return Path(user_home, path[2:])
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = path.partition("/")[0][1:]
        problem = f"there is no user {user}" if user else "HOME is not set, and this user has no home folder"
        raise RefusedError(f"{path}: {problem}; say where the home is, with --home DIR or AUTHPOOL_HOME") from None


def secure_folder(path: Path, *, inside: bool = False) -> None:
    """Create a folder that only its owner can enter (0700), or make sure that an existing one is.

    What lies in it is then out of others' reach, whatever its own mode. A link to a folder is followed. `inside`: it
    lies in a home, so what root makes is given to the home's owner. Raises RefusedError with what puts it right.
    """
    try:
        if inside:
            _make_inside(path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise RefusedError(f"{path} is not a folder") from None
    except OSError as error:
        raise RefusedError(f"{path} can't be used as a folder: {error.strerror}") from error
    _check_folder(path)


def check_home(home: Path) -> None:
    """See that nobody else can enter a home that is there, or exchange it or what lies in it. Raises RefusedError.

    authpool.toml is looked at where it is read, and so are the files that it names.
    """
    _check_folder(home)
    trusted = trusted_users(home)
    check_way(home, trusted)
    for name in INSIDE:
        check_entry(home / name, trusted)


def _check_folder(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise RefusedError(f"{path} can't be used as a folder: {error.strerror}") from error
    if os.geteuid() not in {0, status.st_uid}:
        raise RefusedError(f"{path} belongs to {user_name(status.st_uid)}: run this as that user, or as root")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise RefusedError(f"{path} is open to others (mode {mode:04o}); run: chmod 700 '{path}'")


def _make_inside(path: Path) -> None:
    with suppress(FileNotFoundError):  # there is no home yet
        make_folder_for_owner(path)


def read_secret_file(path: Path) -> str:
    """Read a file that holds a secret. Raises RefusedError, naming the file and what to do about it."""
    try:
        return read_private(path).decode()
    except UnicodeDecodeError:
        # Not chained: the error carries the bytes it could not decode.
        raise RefusedError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise RefusedError(f"{path} can't be read: {error.strerror}") from error
