"""What the gateway prints by itself in mitmdump and mitmweb, beside mitmproxy's own log on the terminal.

Lines of the access log go to standard output as they are: mitmproxy would put the time before each. And with --quiet
mitmproxy hides warnings: that an account was disabled, or is left out, goes to standard error then.
"""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from mitmproxy.addons.termlog import TermLogHandler
from mitmproxy.log import MitmFormatter

from authpool.pool.report import NEVER_QUIET
from authpool.proxy.full_disk import survive_full_disk
from authpool.requests import access_log

QUIET = "error"
"""The `termlog_verbosity` that --quiet sets: warnings are hidden."""


_gateway_logger = logging.getLogger("authpool")


class Terminal:
    """Prints while a tool is running that prints its log."""

    def __init__(self) -> None:
        self._accesses = _Printer(lambda: sys.stdout)
        self._quiet = _Printer(lambda: sys.stderr, level=logging.WARNING)
        self._quiet.setFormatter(MitmFormatter(colorize=False))
        self._quiet.addFilter(_is_hidden_and_matters)
        self._no_access = _NoAccess()

    def configure(self, verbosity: str) -> None:
        """Follow mitmproxy's `termlog_verbosity`. Tools that draw on the terminal have no such option."""
        survive_full_disk(sys.stdout)
        for logger in (access_log.logger, _gateway_logger):
            for printer in [one for one in logger.handlers if isinstance(one, _Printer)]:
                logger.removeHandler(printer)  # ours, or of a script that is being replaced and has not ended yet
        access_log.logger.addHandler(self._accesses)
        for handler in _terminal_logs():
            handler.addFilter(self._no_access)
        if verbosity == QUIET:
            _gateway_logger.addHandler(self._quiet)

    def close(self) -> None:
        """Print nothing any more."""
        access_log.logger.removeHandler(self._accesses)
        for handler in _terminal_logs():
            handler.removeFilter(self._no_access)
        _gateway_logger.removeHandler(self._quiet)


class _Printer(logging.Handler):
    """Prints to a stream as it is then; whoever reads it may be gone."""

    def __init__(self, stream: Callable[[], TextIO], level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            print(self.format(record), file=self._stream(), flush=True)


class _NoAccess(logging.Filter):
    """Keeps the access log out of mitmproxy's own lines. One for each script that runs, so that each takes its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name != access_log.logger.name


def _terminal_logs() -> list[logging.Handler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, TermLogHandler)]


def _is_hidden_and_matters(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR and record.getMessage().startswith(NEVER_QUIET)
