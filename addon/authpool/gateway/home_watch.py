"""Whether others have got a hand on the home of a running gateway: said at once, and once."""

import logging
from pathlib import Path

from authpool.config import CONFIG_NAME
from authpool.errors import RefusedError
from authpool.files.home import check_home
from authpool.files.strict_modes import check_entry, trusted_users

logger = logging.getLogger(__name__)


class HomeWatch:
    """Remembers what was said of one home. Call `look` in a worker thread, and `tell` in the event loop."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._told = ""

    def look(self) -> str:
        """What is wrong; empty where nothing is. A home that is gone is others' to tell."""
        if not self._home.exists():
            return self._told
        try:
            check_home(self._home)
            check_entry(self._home / CONFIG_NAME, trusted_users(self._home))
        except RefusedError as error:
            return str(error)
        return ""

    def tell(self, trouble: str) -> None:
        """Say what is news."""
        if trouble == self._told:
            return
        self._told = trouble
        if trouble:
            logger.error("Others may change what this gateway obeys: %s", trouble)
        else:
            logger.warning("Nobody else may change what this gateway obeys any more")
