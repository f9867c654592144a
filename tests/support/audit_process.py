"""A process of its own that appends to an audit trail.

``python -m support.audit_process VERB HOME NAME TIMES BYTES``
"""

import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from authpool.accounts.account import Account
from authpool.accounts.events import AccountEvent
from authpool.clock import SystemClock
from authpool.store.folder.trail_files import NAME
from support.trail import AuditTrail


def start(verb: str, home: Path, name: str, times: int, rotate_bytes: int) -> subprocess.Popen[str]:
    """Start such a process: it says ``ready``, begins when its standard input ends, and numbers its lines from 0."""
    return subprocess.Popen(
        [sys.executable, "-m", "support.audit_process", verb, str(home), name, str(times), str(rotate_bytes)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def append(trail: AuditTrail, home: Path, name: str, times: int) -> None:
    """Write so many lines down for the account ``p/NAME``."""
    for number in range(times):
        _record(trail, name, number)


def fill(trail: AuditTrail, home: Path, name: str, times: int) -> None:
    """Write on while no file may grow any more, but for half a line; then, with room again, line 99.

    Says ``told N``: how many errors were logged.
    """
    told = _Count()
    logging.getLogger().addHandler(told)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for number in range(times - 1):
        _record(trail, name, number)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((home / NAME).stat().st_size + 50, limits[1]))
    for number in range(times, times + 3):
        _record(trail, name, number)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _record(trail, name, 99)
    print(f"told {told.count}", flush=True)


class _Count(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def _record(trail: AuditTrail, name: str, number: int) -> None:
    account = Account(pool="p", name=name)
    trail.record(AccountEvent(kind="paused", account=account, reason=str(number)))


VERBS: dict[str, Callable[[AuditTrail, Path, str, int], None]] = {verb.__name__: verb for verb in (append, fill)}

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.read()
    folder = Path(sys.argv[2])
    the_trail = AuditTrail(folder, SystemClock(), "command line", rotate_bytes=int(sys.argv[5]))
    VERBS[sys.argv[1]](the_trail, folder, sys.argv[3], int(sys.argv[4]))
