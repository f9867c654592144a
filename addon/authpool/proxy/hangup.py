"""SIGHUP: a supervisor's word to reload, or the kernel's that the terminal is gone."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from mitmproxy import ctx

from authpool.proxy.controlling_terminal import ControllingTerminal

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Hangup:
    """Calls `reload` at each SIGHUP, and `end` once, when the terminal is lost.

    The terminal tells which it is: one that was hung up does not answer. A console is looked after besides, for the
    signal may come before the terminal is gone, and without one the console would read its end over and over.
    """

    def __init__(self, reload: Callable[[], None], end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._reload = reload
        self._end = end
        self._terminal = ControllingTerminal()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Take over SIGHUP, as soon as the script is loaded: by default it ends the process."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        if _is_console():
            self._look_later()

    def forget(self) -> None:
        """Be told no more. The signal is no reason to die either, while what is under way lands."""
        if self._look is not None:
            self._look.cancel()
        if self._terminal.is_lost():
            self._terminal.let_go()
        if self._loop is not None:
            self._loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def give_back(self) -> None:
        """Let the signal do what it does by default."""
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def _hung_up(self) -> None:
        if self._terminal.is_lost():
            self._lose()
            return
        self._reload()
        self._look_later()

    def _look_later(self) -> None:
        if self._look is not None:
            self._look.cancel()
        if self._loop is not None:
            self._look = self._loop.call_later(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        if self._terminal.is_lost():
            self._lose()
        elif _is_console():
            self._look_later()

    def _lose(self) -> None:
        self._terminal.let_go()
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())


def _is_console() -> bool:
    return hasattr(ctx.master, "prompt_for_exit")
