"""The keys of ``[gateway]`` that say by which names it is reached, and where the requests of no pool may go."""

from typing import Literal, cast, get_args

from authpool.config.config_table import ConfigTable, mistake
from authpool.config.host_pattern import HostPattern

type Unmatched = Literal["pass", "block", "tunnel"]
"""Requests of no pool: pass (inspected, without a credential), block (403), or tunnel (their TLS is left closed)."""

REACH_KEYS = ("listener_names", "unmatched", "allow_local")
_NAME_REMEDY = 'Write it as "gateway.example.com" or "*.svc.cluster.local", without a port.'


def read_listener_names(table: ConfigTable) -> tuple[HostPattern, ...]:
    """Read the names that clients may call the listeners by. Raises ConfigurationError."""
    return tuple(_listener_name(table, index, text) for index, text in enumerate(table.take_strings("listener_names")))


def _listener_name(table: ConfigTable, index: int, text: str) -> HostPattern:
    path = table.item("listener_names", index)
    if text == "*":
        raise mistake(path, "would let every web page's name in.", _NAME_REMEDY)
    try:
        pattern = HostPattern.parse(text)
    except ValueError as error:
        raise mistake(path, str(error), _NAME_REMEDY) from None
    if pattern.port is not None:
        raise mistake(path, "has a port, and the name counts on every port.", _NAME_REMEDY)
    return pattern


def read_unmatched(table: ConfigTable) -> Unmatched | None:
    """Read what becomes of requests of no pool; None where nothing is said. Raises ConfigurationError."""
    if "unmatched" not in table:
        return None
    return cast("Unmatched", table.take_choice("unmatched", get_args(Unmatched.__value__), "pass"))


def read_allow_local(table: ConfigTable) -> bool:
    """Read whether other machines' clients may reach the gateway's own network. Raises ConfigurationError."""
    return table.take("allow_local", bool, default=False)
