"""The request to reload in a folder's store: the file ``.reload`` of a home, which holds the request's number."""

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
    return number


def last_request(home: Path) -> int:
    """As `Store.reload_request`; 0 as well where something else was written."""
    try:
        return int(read_private(home / NAME))
    except (OSError, RefusedError, ValueError):
        return 0
