"""The request to reload in a folder's store: the file ``.reload`` of a home, which holds the request's number.

The last one that was made by force stands in ``.reload-forced`` too.
"""

import os
import time
from pathlib import Path

from authpool.errors import RefusedError
from authpool.files.atomic_file import FileOperations, read_private, replace_file, unavailable

NAME = ".reload"
FORCED_NAME = ".reload-forced"


def ask_for_reload(home: Path, *, forced: bool = False) -> int:
    """As `Store.request_reload`, or `ForcesReloads.force_reload`. Raises StoreUnavailableError."""
    number = max(time.time_ns(), last_request(home) + 1)
    with unavailable(home / NAME):
        if forced:  # first: who sees the request has to see that too
            replace_file(FileOperations(), home / FORCED_NAME, f"{number}\n".encode(), lambda: None)
        replace_file(FileOperations(), home / NAME, f"{number}\n".encode(), lambda: None)
        os.utime(home / NAME, ns=(number, number))  # its time says the same
    return number


def last_forced(home: Path) -> int:
    """As `ForcesReloads.forced_reload`."""
    try:
        return int(read_private(home / FORCED_NAME))
    except (OSError, RefusedError, ValueError):
        return 0


def last_request(home: Path) -> int:
    """As `Store.reload_request`; to touch the file is a request too, whatever is written in it."""
    path = home / NAME
    try:
        touched = path.stat().st_mtime_ns
    except OSError:
        return 0
    try:
        return max(touched, int(read_private(path)))
    except (OSError, RefusedError, ValueError):
        return touched
