"""What a process that holds credentials must not leave on a disk: its memory, and the keys of its TLS connections."""

import ctypes
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress

from authpool.errors import RefusedError

KEY_LOGS = ("MITMPROXY_SSLKEYLOGFILE", "SSLKEYLOGFILE")
_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Leave no memory behind when this process crashes, and let no other program of the same user read it.

    What the system does not allow is left as it is. A program that is started from here does not inherit the latter.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def refuse_key_log(environ: Mapping[str, str]) -> None:
    """Raise RefusedError where mitmproxy would write the keys of TLS connections into a file."""
    for name in KEY_LOGS:
        if environ.get(name):
            raise RefusedError(
                f"{name} is set: mitmproxy writes the keys of TLS connections into that file, and with them anybody "
                f"can read the credentials from the network. Unset it"
            )
