"""Which addresses belong to a machine and its own network: what lies there trusts whoever can reach it. Pure."""

import ipaddress
import socket
from functools import lru_cache

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96")))
"""IPv6 with an IPv4 address in its last 32 bits: NAT64 (RFC 6052 §2.1), IPv4-compatible (RFC 4291 §2.5.5.1)."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IANA gives out of IPv6; the rest is of one network, of one machine, or of nobody."""
_LOCAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's metadata and resolver, at a public address
            "192.0.0.0/24",  # Oracle's metadata among others (RFC 6890 §2.2.2)
            "192.88.99.0/24",  # relays to 6to4, given up (RFC 7526)
            "2002::/16",  # 6to4, given up: whoever relays it decides where it goes
        ),
    )
)


@lru_cache(maxsize=4096)  # clients choose the addresses
def is_local_address(text: str) -> bool:
    """Whether an address is loopback, private, link-local, shared (CGNAT), multicast, reserved, or a metadata service.

    What is no address is not known to be elsewhere, and counts as local.
    """
    try:
        address: Address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return True
    inner = _embedded(address)
    return _is_local(address) if inner is None else _is_local(inner)


def is_address(text: str) -> bool:
    """Whether a host is an address, in the one way that nothing reads differently."""
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def is_odd_address(text: str) -> bool:
    """Whether a host is an IPv4 address in a form that programs read differently: ``127.1``, ``0177.0.0.1``."""
    if is_address(text):
        return False
    try:
        socket.inet_aton(text)
    except (OSError, ValueError):
        return False
    return True


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_local(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return True
    return not address.is_global or address.is_multicast or any(address in network for network in _LOCAL)
