"""Which URLs a secret may be sent to: https, or this very machine."""

import ipaddress
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit


def check_endpoint(url: str) -> None:
    """Accept an endpoint URL that is https, or http on loopback (RFC 6749 §3.1, §3.2; RFC 8252 §7.3).

    Raises ValueError saying what is wrong; the URL itself is not repeated, it may hold a password.
    """
    parts = _split(url)
    if "@" in parts.netloc:
        raise ValueError("has a user name or password in it.")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("is not a complete https:// URL.")
    if parts.fragment or "#" in url:
        raise ValueError("has a fragment (#...).")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("is http://, and its host is not loopback.")


def check_issuer(url: str) -> None:
    """Accept an issuer identifier: an endpoint URL without a query (RFC 8414 §2). Raises ValueError."""
    check_endpoint(url)
    if "?" in url:
        raise ValueError("has a query (?...), which an issuer never has.")


@lru_cache(maxsize=1024)  # asked of every request, and clients choose the hosts
def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost` (RFC 6761 §6.3) or a loopback address, bracketed or not."""
    name = host.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    # urlsplit drops tabs and newlines, and clients differ over backslashes: refuse what is not plain
    if not url.isascii() or any(c <= " " or c in '\\"<>\x7f' for c in url):
        raise ValueError("has a character in it that a URL can't have.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL.") from None
    _check_port(parts)
    return parts


def _check_port(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:  # not a number, or above 65535
        port = 0
    if port == 0:
        raise ValueError("names a port that there is not: 1 to 65535.")
