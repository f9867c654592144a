"""How much one client uses at this moment, and whether it may have more. It is refused at once, and never waits."""

import math

from authpool.clients.client import GatewayClient
from authpool.clients.keyring import Denial

BUSY_SECONDS = 1.0
"""After so long it is worth to try again where too many requests are under way: nobody knows when one ends."""


class Allowance:
    """One client's requests under way, and the rate of those that came; kept while its keys change."""

    def __init__(self, now: float) -> None:
        """Times are in seconds of a clock that only goes forward."""
        self.in_flight = 0
        self._left: float | None = None
        """So many requests may come at once; None: it was not counted yet."""
        self._at = now

    def take(self, client: GatewayClient, now: float) -> Denial | None:
        """Begin a request, which ends with `give_back`; or say why not."""
        if client.max_in_flight is not None and self.in_flight >= client.max_in_flight:
            return _limited(client, f"It may have {client.max_in_flight} requests under way at a time.", BUSY_SECONDS)
        rate = client.requests_per_second
        if rate is not None:
            burst = max(1.0, rate)
            before = burst if self._left is None else self._left
            self._left = min(burst, before + (now - self._at) * rate)
            self._at = now
            if self._left < 1.0:
                return _limited(client, f"It may send {rate:g} requests a second.", (1.0 - self._left) / rate)
            self._left -= 1.0
        self.in_flight += 1
        return None

    def give_back(self) -> None:
        """A request is over."""
        self.in_flight -= 1


def _limited(client: GatewayClient, why: str, seconds: float) -> Denial:
    return Denial(
        code="client_limited",
        detail=f"The gateway key has reached its limit. {why}",
        client=client.name,
        retry_after_seconds=math.ceil(seconds),
    )
