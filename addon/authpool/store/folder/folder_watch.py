"""Being told by the system which files of a folder changed, where it tells that."""

import asyncio
import enum
import logging
import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from watchfiles._rust_notify import RustNotify  # the documented lower half of `watchfiles.watch`

from authpool.files.atomic_file import TEMPORARY_SUFFIX

logger = logging.getLogger(__name__)

SILENT_TYPES = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "fuse",
    "ceph",
    "afs",
    "lustre",
    "gluster",
    "gpfs",
    "virtiofs",
    "vboxsf",
    "prl_fs",
)
"""File systems whose files others change on another machine: inotify(7) does not tell of that."""
RETRY_SECONDS = 300.0
"""After it went wrong, it is tried again so much later."""
TEST_SECONDS = 2.0
_STEP_MS = 100
"""So often who listens looks whether anything was told; he wakes up each time."""
_LISTEN_MS = 5000


class Notifier(Protocol):
    """What this needs of `watchfiles`' RustNotify."""

    def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: threading.Event | None) -> object:
        """Wait for changes: a set of (kind, path), else a word."""

    def close(self) -> None:
        """End `watch`, which raises or answers something else then."""


def _rust_notify(root: str) -> Notifier:
    return RustNotify([root], False, False, 0, True, False)  # no debugging, no polling; folders in it too


class Coverage(enum.Enum):
    """How changes are noticed: by being told, from now on by being told, or by looking at everything."""

    WATCHED = "watched"
    BEGUN = "begun"
    POLLED = "polled"


def silent_type(path: Path) -> str | None:
    """The type of the file system that `path` lies on, where it is one that others change behind the kernel's back."""
    try:
        device = path.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None  # another system than Linux
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts:
        fields, _, rest = mount.partition(" - ")
        if fields.split()[2] == wanted and (kind := rest.split()[0]).startswith(SILENT_TYPES):
            return kind
    return None


class FolderWatch:
    """What changed in the pools' folders below `root`. Meant for worker threads, but for `wait`."""

    def __init__(
        self,
        root: Path,
        *,
        notify: Callable[[str], Notifier] = _rust_notify,
        silent_type: Callable[[Path], str | None] = silent_type,
    ) -> None:
        """`notify` begins to watch a folder and those in it; `silent_type` names a file system it is no use on."""
        self._root = Path(os.path.abspath(root))
        self._new_notify = notify
        self._silent_type = silent_type
        self.wanted = False
        """Whether anybody ever waited."""
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._guard = threading.Lock()
        self._told: defaultdict[str, set[str]] = defaultdict(set)
        self._notify: Notifier | None = None
        self._stop = threading.Event()
        self._there: Mapping[Path, tuple[int, int] | None] = {}
        self._retry_at = 0.0
        self._trouble = ""

    async def wait(self, seconds: float) -> None:
        """Wait until something is told, at most so long."""
        self.wanted = True
        if self._waiter is None or self._waiter[0] is not asyncio.get_running_loop():
            self._waiter = (asyncio.get_running_loop(), asyncio.Event())
        event = self._waiter[1]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        event.clear()

    def keep_up(self, pools: Iterable[Path]) -> Coverage:
        """Watch what is there now: another folder in the place of one that was watched is another folder."""
        with self._guard:
            there = {path: _identity(path) for path in (self._root, *pools)}
            if self._notify is not None and there == self._there:
                return Coverage.WATCHED
            self._end()
            if there[self._root] is None or time.monotonic() < self._retry_at:
                return Coverage.POLLED
            if silent := self._silent_type(self._root):
                self._give_up(f"it lies on {silent}, which does not tell what changes")
                return Coverage.POLLED
            self._there = there
        return self._begin()

    def take(self) -> Mapping[str, set[str]]:
        """What was told since the last time: file names by the name of the pool's folder."""
        notify = self._notify
        if notify is not None:
            with suppress(Exception):  # who listens hears of it, too
                self._note(notify.watch(1, 1, 1, None))
        with self._guard:
            told, self._told = self._told, defaultdict(set)
        return told

    def miss(self, pool: str, names: set[str]) -> None:
        """These could not be looked at: tell of them again."""
        with self._guard:
            self._told[pool] |= names

    def distrust(self) -> None:
        """Something changed and was not told."""
        with self._guard:
            self._end()
            self._give_up("the system did not tell of a change there")

    def restart(self) -> None:
        """Begin anew, the next time that anybody looks."""
        with self._guard:
            self._end()
        self._wake()

    def close(self) -> None:
        """Tell nothing any more."""
        with self._guard:
            self.wanted = False
            self._end()

    def _begin(self) -> Coverage:
        try:
            notify = self._new_notify(str(self._root))
            works = _tells(notify, self._root)
        except Exception as error:  # noqa: BLE001 - inotify's limits, or what else its library says: looking still works
            with self._guard:
                self._give_up(f"the system can't be asked: {error}")
            return Coverage.POLLED
        with self._guard:
            if not works:
                self._give_up("the system does not tell of a file that was made there")
                return Coverage.POLLED
            if self._trouble:
                self._trouble = ""
                logger.info("Changes in %s are told by the system again", self._root)
            self._notify, self._stop = notify, threading.Event()
            listen = threading.Thread(
                target=self._listen, args=(notify, self._stop), name="authpool watch", daemon=True
            )
        listen.start()
        return Coverage.BEGUN

    def _listen(self, notify: Notifier, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._note(notify.watch(_STEP_MS, _STEP_MS, _LISTEN_MS, stop))
        except Exception as error:  # noqa: BLE001 - as above
            with self._guard:
                if not stop.is_set():
                    self._end()
                    self._give_up(f"the system tells no more: {error}")
            self._wake()

    def _note(self, told: object) -> None:
        if not isinstance(told, set):
            return
        with self._guard:
            for _, path in told:
                folder, name = os.path.split(path)
                self._told[folder.rpartition(os.sep)[2]].add(name)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            loop, event = self._waiter
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(event.set)

    def _end(self) -> None:
        self._stop.set()
        if self._notify is not None:
            self._notify.close()
        self._notify = None
        self._there = {}

    def _give_up(self, trouble: str) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._trouble:  # once
            logger.info("Changes in %s are noticed by looking, every moment: %s", self._root, trouble)
        self._trouble = trouble


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _tells(notify: Notifier, root: Path) -> bool:
    """Whether a file that is made there is told of; where none can be made, that is taken for granted."""
    path = root / f".{os.getpid()}-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        path.touch(mode=0o600, exist_ok=False)
    except OSError:
        return True
    path.unlink(missing_ok=True)
    deadline = time.monotonic() + TEST_SECONDS
    while time.monotonic() < deadline:
        told = notify.watch(1, 5, 50, None)
        if isinstance(told, set) and any(name.endswith(path.name) for _, name in told):
            return True
    return False
