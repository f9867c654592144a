"""What the gateway tells of its own health: whether every pool can serve, and how many accounts are in which state.

No account is named. Pure.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from authpool.pool import Pool, State

HOST = "authpool.internal"
"""Requests to this host, by whatever proxy mode, never leave the gateway."""
PATH = "/health"
HEADERS: Mapping[str, str] = {"Content-Type": "application/json", "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status and a JSON document."""

    status: int
    document: Mapping[str, object]

    def body(self) -> bytes:
        return json.dumps(self.document).encode() + b"\n"


NOT_FOUND = Answer(status=404, document={"error": f"there is only http://{HOST}{PATH}"})


def health(pools: Mapping[str, Mapping[State, int]], dry: Collection[str] = ()) -> Answer:
    """200 while every pool has an account that can serve, else 503; states nobody is in are left out, but `ready`.

    `dry`: pools whose client the token endpoint rejects, and where no access token lives: nobody there can serve.
    """
    can_serve = all(counts.get(State.READY, 0) for counts in pools.values()) and not dry
    told = {name: _told(counts, dry=name in dry) for name, counts in pools.items()}
    status, word = (200, "ok") if can_serve else (503, "unavailable")
    return Answer(status=status, document={"status": word, "pools": told})


def is_dry(pool: Pool, now: float) -> bool:
    """Whether no account of a pool could serve without a refresh."""
    return not any(member.state(now) is State.READY and member.live(now) for member in pool)


def _told(counts: Mapping[State, int], *, dry: bool) -> Mapping[str, object]:
    told = {str(state): counts.get(state, 0) for state in State if counts.get(state) or state is State.READY}
    return told | ({"client": "rejected"} if dry else {})
