"""Whose the files are: when root works on somebody else's home, what it makes there belongs to the home's owner."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path


def give_to_owner(made: int | Path, folder: Path) -> None:
    """Give a file or folder that root has made to whom the folder around it belongs. Raises OSError."""
    if os.geteuid() != 0:
        return
    around = folder.stat()
    now = os.fstat(made) if isinstance(made, int) else made.lstat()
    if (now.st_uid, now.st_gid) != (around.st_uid, around.st_gid):
        os.chown(made, around.st_uid, around.st_gid, follow_symlinks=isinstance(made, int))


def make_folder_for_owner(path: Path) -> bool:
    """Make a folder that only its owner can enter (0700), the property of whom the one around it belongs to.

    False: it was there. Raises OSError.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    give_to_owner(path, path.parent)
    return True


def make_for_owner(path: Path) -> None:
    """Before root opens a file that others share (a lock, a trail): make it the owner's, if it is not there yet.

    At no moment does it stand there as root's. One that root has made earlier is given back. Raises OSError.
    """
    if os.geteuid() != 0:
        return
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        _make_aside(path)
    else:
        if stat.S_ISREG(status.st_mode) and status.st_uid == 0:
            give_to_owner(path, path.parent)


def _make_aside(path: Path) -> None:
    aside = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(descriptor, path.parent)
        with suppress(FileExistsError):  # somebody was faster
            os.link(aside, path)
    finally:
        os.close(descriptor)
        os.unlink(aside)
