"""Finding a program as the system would, and nobody else's: the way to it is looked at as that to the configuration."""

import errno
import grp
import os
import pwd
import shutil
from collections.abc import Mapping
from pathlib import Path

from authpool.files.strict_modes import check_way, has_access_list, is_private, trusted_users

SYSTEM_GROUPS = range(1000)
"""What distributions keep for themselves. A directory service has the others, and need not tell who is in them."""


def find_program(name: str, environ: Mapping[str, str], home: Path) -> Path:
    """Where the program is that `name` starts, with the PATH of `environ`; a name with a slash is where it says.

    Nobody but root, this process's user and the owner of `home` can exchange it. What it opens or starts itself is not
    looked at. It blocks. Raises OSError when there is none, and RefusedError, with what puts it right.
    """
    if "\0" in name:
        raise OSError(errno.EINVAL, "its name is impossible")
    found = shutil.which(name, path=os.pathsep.join(os.get_exec_path(environ)))
    if found is None:
        missing = errno.EACCES if "/" in name and Path(name).is_file() else errno.ENOENT
        raise OSError(missing, os.strerror(missing))
    path = Path(found).absolute()
    check_way(path, trusted_users(home), group_may_write=_only_root_is_in_group)
    return path


def _only_root_is_in_group(part: Path, status: os.stat_result) -> bool:
    """Whether a group that may write is its owner's private one, or one of the system's with nobody in it.

    So is Debian's `staff` before somebody is made a member, and /usr/local/bin is its folder (root:staff, mode 2775).
    Debian's sshd refuses that: programs may run with a group that has no members. None does with `staff`.
    """
    if is_private(part, status):
        return True
    group = status.st_gid
    return status.st_uid == 0 and group in SYSTEM_GROUPS and not has_access_list(part) and not _members(group)


def _members(gid: int) -> set[str]:
    """Who is in a group beside root: by its list, or because it is their first."""
    try:
        listed = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        listed = set()
    return (listed | {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid and user.pw_uid != 0}) - {"root"}
