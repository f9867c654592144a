"""mitmproxy logs what it could not read of a client, as it came: a gateway key in it is left out."""

import logging
import re

_LOGGER = logging.getLogger("mitmproxy.proxy.server")
_KEYS = re.compile(r"authpool_[0-9A-Za-z_]*|\b(?<=basic )[A-Za-z0-9+/=_-]+", re.IGNORECASE)


class _WithoutKeys(logging.Filter):
    """Also what begins like a key, and what may be one in Base64."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str) and not record.args:
            record.msg = _KEYS.sub("[left out]", record.msg)
        return True


_filter = _WithoutKeys()


def leave_keys_out() -> None:
    """Have every key left out from now on."""
    _LOGGER.addFilter(_filter)


def log_as_ever() -> None:
    """Let mitmproxy log as it does."""
    _LOGGER.removeFilter(_filter)
