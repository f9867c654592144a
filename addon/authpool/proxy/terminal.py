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

from authpool import access_log
from authpool.report import NEVER_QUIET

QUIET = "error"
"""The `termlog_verbosity` that --quiet sets: warnings are hidden."""


class Terminal:
    """Prints while a tool is running that prints its log."""

    def __init__(self) -> None:
        self._accesses = _Printer(lambda: sys.stdout)
        self._quiet = _Printer(lambda: sys.stderr, level=logging.WARNING)
        self._quiet.setFormatter(MitmFormatter(colorize=False))
        self._quiet.addFilter(_is_hidden_and_matters)

    def configure(self, verbosity: str) -> None:
        """Follow mitmproxy's `termlog_verbosity`. Tools that draw on the terminal have no such option."""
        self.close()
        access_log.logger.addHandler(self._accesses)
        for handler in _terminal_logs():
            handler.addFilter(_is_no_access)
        if verbosity == QUIET:
            logging.getLogger("authpool").addHandler(self._quiet)

    def close(self) -> None:
        """Print nothing any more."""
        access_log.logger.removeHandler(self._accesses)
        for handler in _terminal_logs():
            handler.removeFilter(_is_no_access)
        logging.getLogger("authpool").removeHandler(self._quiet)


class _Printer(logging.Handler):
    """Prints to a stream as it is then; whoever reads it may be gone."""

    def __init__(self, stream: Callable[[], TextIO], level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            print(self.format(record), file=self._stream(), flush=True)


def _terminal_logs() -> list[logging.Handler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, TermLogHandler)]


def _is_no_access(record: logging.LogRecord) -> bool:
    return record.name != access_log.logger.name


def _is_hidden_and_matters(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR and record.getMessage().startswith(NEVER_QUIET)
