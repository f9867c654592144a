"""How much a client has used the gateway, over all its keys and all gateways."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`requests` were let in, `refused` were not though the secret was right. `last_used_at` is 0 for never."""

    requests: int = 0
    refused: int = 0
    last_used_at: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            requests=self.requests + other.requests,
            refused=self.refused + other.refused,
            last_used_at=max(self.last_used_at, other.last_used_at),
        )


NEVER = Usage()


class UsageCount:
    """What was used since it was last written down, by client."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}

    def note(self, client: str, *, refused: bool, now: float) -> None:
        """One more request of a client."""
        count = self._counts.get(client)
        if count is None:
            count = self._counts[client] = [0, 0, 0]
        if refused:
            count[1] += 1
        else:
            count[0] += 1
            count[2] = int(now)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def peek(self) -> Mapping[str, Usage]:
        """What there is, which stays."""
        return {
            name: Usage(requests=requests, refused=refused, last_used_at=at)
            for name, (requests, refused, at) in self._counts.items()
        }

    def take(self) -> Mapping[str, Usage]:
        """What there is, to be written down."""
        counts = self.peek()
        self._counts = {}
        return counts

    def put_back(self, counts: Mapping[str, Usage]) -> None:
        """It could not be written."""
        for name, usage in counts.items():
            count = self._counts.setdefault(name, [0, 0, 0])
            count[:] = [count[0] + usage.requests, count[1] + usage.refused, max(count[2], usage.last_used_at)]
