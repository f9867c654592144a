"""What asks a running gateway to reload: authpool.toml that was changed, or somebody through the store."""

import contextlib
import time
from pathlib import Path

from authpool.config import CONFIG_NAME
from authpool.files.kernel_lock import Run
from authpool.gateway.home_watch import HomeWatch
from authpool.store import ForcesReloads, Store


class ReloadRequests:
    """Which of them one gateway has answered. To be made before authpool.toml is read: what changes then is noticed."""

    def __init__(self, home: Path) -> None:
        self._file = home / CONFIG_NAME
        self._mark = self._current_mark()
        self._begun_ns = time.time_ns()
        self._home_watch = HomeWatch(home)
        self.answered = 0
        """The number of the last one that came through the store."""

    async def begin(self, store: Store) -> None:
        """What was asked for before the start is done by that; raises StoreUnavailableError."""
        request = await store.reload_request()
        if request < self._begun_ns:  # else what was asked for meanwhile is done by whoever follows
            self.answered = request

    async def answer(self, store: Store) -> bool:
        """All that came up to now is being answered; whether any of it is to be done by force."""
        self._mark = self._current_mark()
        before = self.answered
        self.answered = await store.reload_request()
        return isinstance(store, ForcesReloads) and await store.forced_reload() > before

    async def came(self, store: Store, run: Run) -> bool:
        """Whether there is one to answer; what is wrong with the home itself is said by the way."""
        mark, trouble = await run(lambda: (self._current_mark(), self._home_watch.look()))
        self._home_watch.tell(trouble)
        return bool(mark != self._mark) or await store.reload_request() != self.answered

    def _current_mark(self) -> object:
        with contextlib.suppress(OSError):
            stat = self._file.stat()
            return stat.st_ino, stat.st_mtime_ns, stat.st_size
        return None
