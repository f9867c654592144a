"""Who else could exchange a file: the owner and the mode of every part of the way to it, as sshd's StrictModes looks.

Root, this process's user and the home's owner are trusted. Nobody else may own a part, or be able to write one. What
others may write is all right where it is sticky, as /tmp is: what a trusted user owns there only he can exchange. A
group may write where it is the owner's private one, which has his name and nobody else in it.
"""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from authpool.errors import RefusedError

MOST_LINKS = 40
_UID_MAP = Path("/proc/self/uid_map")
_OVERFLOW_UID = Path("/proc/sys/kernel/overflowuid")
_ACCESS_LIST = "system.posix_acl_access"

type Part = tuple[Path, os.stat_result]
type GroupRule = Callable[[Path, os.stat_result], bool]
"""Whether the group of a part may write there."""


def trusted_users(home: Path) -> frozenset[int]:
    """Whose files a gateway on this home may rely on."""
    try:
        return frozenset({os.geteuid(), home.stat().st_uid}) | _roots()
    except OSError:
        return frozenset({os.geteuid()}) | _roots()


def is_private(part: Path, status: os.stat_result) -> bool:
    """Whether only the owner is in the group that may write."""
    return _is_private_group(status.st_gid, status.st_uid) and not has_access_list(part)


def has_access_list(part: Path) -> bool:
    """Whether more users are named than the mode tells (acl(5)): then the group's bits are theirs, too."""
    try:
        os.getxattr(part, _ACCESS_LIST)
    except (OSError, AttributeError):  # there is none; or the system has none
        return False
    return True


def check_way(path: Path, trusted: frozenset[int], *, group_may_write: GroupRule = is_private) -> None:
    """See that nobody else could exchange what is at `path`, if that is there; a link is followed.

    Raises RefusedError, with what puts it right.
    """
    try:
        for part, status in _way(path):
            _check(part, status, path, trusted, group_may_write)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RefusedError(f"{path} can't be looked at: {error.strerror}") from error


def check_entry(path: Path, trusted: frozenset[int]) -> None:
    """The same for what lies in a folder whose own way was just seen to. Raises RefusedError."""
    try:
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode):
            _check(path, status, path, trusted)
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise RefusedError(f"{path} can't be looked at: {error.strerror}") from error
    check_way(path, trusted)


def _way(path: Path) -> Iterator[Part]:
    """Every folder and link on the way, from the root on, and what is at its end.

    ``..`` is what is above the place that a link led to, as it is for the system.
    """
    at, links = Path("/"), 0
    todo = [part for part in reversed(str(path.absolute()).split("/")) if part]
    yield at, at.lstat()
    while todo:
        part = todo.pop()
        if part == "..":
            at = at.parent
            continue
        here = at / part
        status = here.lstat()
        yield here, status
        if not stat.S_ISLNK(status.st_mode):
            at = here
            continue
        links += 1
        if links > MOST_LINKS:
            raise RefusedError(f"{path} goes round in links")
        target = str(here.readlink())
        at = Path("/") if target.startswith("/") else at
        todo += [name for name in reversed(target.split("/")) if name not in {"", "."}]


def _check(
    part: Path, status: os.stat_result, path: Path, trusted: frozenset[int], group_may_write: GroupRule = is_private
) -> None:
    below = "" if part == path else f", so that {path} could be exchanged"
    if status.st_uid not in trusted:
        raise RefusedError(
            f"{part} belongs to {user_name(status.st_uid)}{below}; give it to root or to the gateway's user, or move "
            "what is below to a place of your own"
        )
    mode = stat.S_IMODE(status.st_mode)
    others = mode & 0o002 or (mode & 0o020 and not group_may_write(part, status))
    if stat.S_ISLNK(status.st_mode) or not others or (stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX):
        return
    if not os.statvfs(part).f_flag & os.ST_RDONLY:  # as a mounted ConfigMap is: nobody can write there
        raise RefusedError(f"others may write {part} (mode {mode:04o}){below}; run: chmod go-w '{part}'")


@lru_cache(maxsize=64)
def _is_private_group(gid: int, uid: int) -> bool:
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and user.pw_gid == gid and not set(group.gr_mem) - {user.pw_name}


@lru_cache(maxsize=1)
def _roots() -> frozenset[int]:
    """Root; and in a user namespace who stands for those that it does not know, the host's root among them."""
    try:
        mapped = [line.split() for line in _UID_MAP.read_text().splitlines()]
        if any(first == "0" and outside == "0" for first, outside, _ in mapped):
            return frozenset({0})
        return frozenset({0, int(_OVERFLOW_UID.read_text())})
    except (OSError, ValueError):
        return frozenset({0})


def user_name(uid: int) -> str:
    """A user's name, for people."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
