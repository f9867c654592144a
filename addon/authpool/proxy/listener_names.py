"""By which names a listener may be addressed: those that lead here, and not whatever name somebody has lead here."""

import ipaddress
import socket
from functools import cache, lru_cache

from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.net.http import url

from authpool.config.endpoint_url import is_loopback
from authpool.config.host_pattern import HostPattern, canonical_host
from authpool.proxy.wire.addressed import Names
from authpool.requests import health

type Own = tuple[HostPattern, ...]
"""`listener_names`."""


def are_its_names(client: Client, names: Names, own: Own) -> bool:
    """Whether all of these, Host and authority of a request, are names of the listener that the client came by.

    Those are its address, loopback, ``localhost``, this machine's host name, the gateway's own, and the operator's
    `own`. The port does not count: others may forward one here.
    """
    address = str(client.sockname[0])
    return all(_is_name(name, address, own) or _is_asked_for(name, client) for name in names)


@lru_cache(maxsize=4096)  # asked of every request in reverse mode, and clients choose what they name
def _is_name(authority: bytes, address: str, own: Own) -> bool:
    host = _host_of(authority)
    if host is None:
        return False
    if is_loopback(host) or host in {health.HOST, _machine()} or _same_address(host, address):
        return True
    return any(pattern.matches("http", host, 80) for pattern in own)


def _is_asked_for(authority: bytes, client: Client) -> bool:
    """Whether this is the very name, or address, that the listener was told to listen on."""
    asked = client.proxy_mode.listen_host(ctx.options.listen_host)
    host = _host_of(authority)
    return bool(asked) and host is not None and host == canonical_host(asked) and not _is_every_address(host)


def _host_of(authority: bytes) -> str | None:
    try:
        host, _ = url.parse_authority(authority.decode("latin-1"), check=True)
    except ValueError:
        return None
    return canonical_host(host)


def _same_address(host: str, address: str) -> bool:
    try:
        return _plain(host) == _plain(address) and not _is_every_address(host)
    except ValueError:
        return False


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as itself, where a socket for both families tells it as an IPv6 one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _is_every_address(host: str) -> bool:
    """Whether it stands for every interface: browsers connect to 0.0.0.0 as if it were loopback."""
    try:
        return _plain(host).is_unspecified
    except ValueError:
        return False


@cache
def _machine() -> str | None:
    return canonical_host(socket.gethostname())
