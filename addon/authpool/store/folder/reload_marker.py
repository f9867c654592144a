"""The request to reload in a folder's store: the file ``.reload`` of a home, which holds the request's number."""

import os
import time
from pathlib import Path

from authpool.errors import RefusedError
from authpool.files.atomic_file import FileOperations, read_private, replace_file, unavailable

NAME = ".reload"


def ask_for_reload(home: Path) -> int:
    """As `Store.request_reload`. Raises StoreUnavailableError."""
    number = max(time.time_ns(), last_request(home) + 1)
    with unavailable(home / NAME):
        replace_file(FileOperations(), home / NAME, f"{number}\n".encode(), lambda: None)
        os.utime(home / NAME, ns=(number, number))  # its time says the same
    return number


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
