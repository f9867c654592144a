"""Wrong keys, counted by the address that they come from; how much is remembered is bounded."""

import ipaddress
from collections import OrderedDict
from functools import lru_cache

WRONG_KEYS = 20
"""So many within the window are told what is wrong with them."""
WINDOW_SECONDS = 60.0
ADDRESSES = 4096
"""Of more, those heard of longest ago are forgotten."""


class WrongKeys:
    """Counts them. Times are in seconds of a clock that only goes forward."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """By address how many, and when the count ends."""

    def note(self, address: str, now: float) -> float | None:
        """Count one more; answers the seconds until the address is heard again, where there were too many."""
        network = _network(address)
        count, until = self._counts.pop(network, (0, 0.0))
        if now >= until:
            count, until = 0, now + WINDOW_SECONDS
        count += 1
        self._counts[network] = (count, until)
        if len(self._counts) > ADDRESSES:
            self._counts.popitem(last=False)
        return until - now if count > WRONG_KEYS else None


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    """The address itself; of IPv6 the /64, for one machine has all of it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
