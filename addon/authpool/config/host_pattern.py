"""Which hosts a pool serves: ``api.example.com``, ``*.example.com``, ``127.0.0.1:9000``, ``[::1]:9000``.

- without a port: the default port of the request's scheme; with one: that port, on either scheme
- ``*.example.com`` is every name below example.com, at any depth, and not example.com itself
- names compare as DNS sees them: without case, without the final dot, international ones in their ASCII form
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

DEFAULT_PORTS = {"https": 443, "http": 80}

type HostRank = tuple[bool, int, bool]

_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_NAME_LENGTH = 253
_LAST_PORT = 65535


@lru_cache(maxsize=4096)  # asked of every request, and clients choose the hosts
def canonical_host(host: str) -> str | None:
    """Write a host in the one form that compares; None: it is no host name or address at all.

    Whatever could make one host look like another (user info, paths, encoded or empty labels) is no host.
    """
    if len(host) > _NAME_LENGTH + 2:  # a dot or brackets more; also keeps the idna codec off long input
        return None
    if ":" in host or host.startswith("["):
        return _canonical_ipv6(host)
    name = host
    if not name.isascii():
        try:
            # mitmproxy decodes and sockets encode names with this codec (IDNA 2003): so compare by it too
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    name = name.lower().removesuffix(".")
    return name if len(name) <= _NAME_LENGTH and _NAME.fullmatch(name) else None


def _canonical_ipv6(host: str) -> str | None:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if "%" in host:  # a zone may hold any text, dots included
        return None
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPattern:
    """One entry of `hosts`; `host` is canonical and without ``*.``. No port: the default of the scheme."""

    host: str
    wildcard: bool = False
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "HostPattern":
        """Read an entry of `hosts`. Raises ValueError with the problem as a sentence."""
        if "/" in text or "@" in text:
            raise ValueError("is a URL, not a host.")
        if text == "*":
            raise ValueError("would hand the credential to every host there is.")
        wildcard = text.startswith("*.")
        match = _HOST_AND_PORT.fullmatch(text.removeprefix("*.") if wildcard else text)
        if match is None:
            raise ValueError("is not a host, or its port is not a number.")
        port = None if match["port"] is None else int(match["port"])
        if port is not None and not 0 < port <= _LAST_PORT:
            raise ValueError("has a port that is not within 1 to 65535.")
        host = canonical_host(match["host"])
        if host is None:
            raise ValueError("is not a host name or address; `*.` may only stand in front.")
        if wildcard and (":" in host or host.rpartition(".")[2].isdigit()):
            raise ValueError("puts `*.` in front of an address.")
        return cls(host=host, wildcard=wildcard, port=port)

    def matches(self, scheme: str, host: str, port: int) -> bool:
        """Whether a request to this destination is meant; `host` is canonical, `scheme` in lower case."""
        if port != (DEFAULT_PORTS.get(scheme) if self.port is None else self.port):
            return False
        if not self.wildcard:
            return host == self.host
        return ":" not in host and host.endswith(f".{self.host}")

    @property
    def rank(self) -> HostRank:
        """The higher, the more exact: a name before a wildcard, a longer suffix, a port before none.

        Two patterns of one rank that match the same destination are the same pattern.
        """
        return (not self.wildcard, len(self.host), self.port is not None)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return ("*." if self.wildcard else "") + host + ("" if self.port is None else f":{self.port}")
