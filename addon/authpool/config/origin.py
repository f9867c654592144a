"""Where a web page comes from, as browsers write it in `Origin` (RFC 6454 §6): ``https://app.example.com:8443``."""

import re
from functools import lru_cache

from authpool.config.config_table import ConfigTable, mistake
from authpool.config.host_pattern import DEFAULT_PORTS, canonical_host

_ORIGIN = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[^\[\]/]*\]|[^:/?#@\[\]]*)(?::(?P<port>[0-9]{1,5}))?"
)
_REMEDY = 'Write it as browsers do, such as "https://app.example.com" or "http://localhost:3000".'


@lru_cache(maxsize=4096)  # clients choose what they send
def canonical_origin(text: str) -> str | None:
    """Write an origin in the one form that compares; None: it is none, or ``null``, which any page can have.

    The default port of the scheme is left out.
    """
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    host = canonical_host(match["host"])
    if host is None:
        return None
    return origin_of(match["scheme"].lower(), host, None if match["port"] is None else int(match["port"]))


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """The origin of a page of this host, which is canonical."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + ("" if port is None or port == DEFAULT_PORTS.get(scheme) else f":{port}")


def read_allowed_origins(table: ConfigTable) -> frozenset[str]:
    """Read a pool's `allowed_origins`. Raises ConfigurationError."""
    texts = table.take_strings("allowed_origins")
    return frozenset(_allowed(table, index, text) for index, text in enumerate(texts))


def _allowed(table: ConfigTable, index: int, text: str) -> str:
    path = table.item("allowed_origins", index)
    if text == "*":
        raise mistake(path, "would let every web page use the credential.", _REMEDY)
    if text == "null":
        raise mistake(path, "is what any web page can say of itself.", _REMEDY)
    origin = canonical_origin(text)
    if origin is None:
        raise mistake(path, "is not an origin: a scheme, a host, perhaps a port, and nothing else.", _REMEDY)
    return origin
