"""What the gateway tells of its own health: that it lives, and whether its pools can serve.

No account is named. Pure.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

from authpool.pool.pool import State

HOST = "authpool.internal"
"""Requests to this host, by whatever proxy mode, never leave the gateway."""
PATH = "/health"
HEADERS: Mapping[str, str] = {"Content-Type": "application/json", "Cache-Control": "no-store"}

type Probe = Literal["health", "live", "ready"]

PROBES: Mapping[str, Probe] = {PATH: "health", "/live": "live", "/ready": "ready"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status and a JSON document."""

    status: int
    document: Mapping[str, object]

    def body(self) -> bytes:
        return json.dumps(self.document).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHealth:
    """How one pool stands. `can_serve`: an account of it could take a request now."""

    can_serve: bool
    counts: Mapping[State, int]
    client_rejected: bool = False
    endpoint_down: bool = False


LIVE = Answer(status=200, document={"status": "ok"})
NOT_FOUND = Answer(status=404, document={"error": f"there are http://{HOST}{PATH}, /live and /ready, no other"})
UNKNOWN_POOL = Answer(status=404, document={"error": "there is no pool of that name"})
STOPPING = Answer(status=503, document={"status": "unavailable", "reason": "the gateway is stopping"})


def probe_at(target: str, health_path: str | None = None) -> Probe | None:
    """What a request target (path and query) asks for.

    With `health_path`, that is where the gateway's health is found, with ``/live`` and ``/ready`` beneath it.
    """
    path = target.partition("?")[0]
    if health_path is None:
        return PROBES.get(path)
    if path == health_path:
        return "health"
    base = health_path.removesuffix("/")
    probe = PROBES.get(path.removeprefix(base)) if path.startswith(base) else None
    return None if probe == "health" else probe


def pools_asked_for(target: str) -> Collection[str]:
    """The pools that a request target names by ``?pool=``; none: all of them."""
    return parse_qs(target.partition("?")[2], keep_blank_values=True).get("pool", [])


def readiness(probe: Probe, pools: Mapping[str, PoolHealth]) -> Answer:
    """200 while every one of these pools can serve, else 503. ``/health`` tells its counts as well."""
    ready = all(pool.can_serve for pool in pools.values())
    tell = _ready if probe == "ready" else _counted
    told = {name: tell(pool) for name, pool in pools.items()}
    return Answer(status=200 if ready else 503, document={"status": "ok" if ready else "unavailable", "pools": told})


def _ready(pool: PoolHealth) -> Mapping[str, object]:
    return {"can_serve": pool.can_serve, **_ailments(pool)}


def _counted(pool: PoolHealth) -> Mapping[str, object]:
    """States nobody is in are left out, but `ready`."""
    counts = {
        str(state): pool.counts.get(state, 0) for state in State if pool.counts.get(state) or state is State.READY
    }
    return {"can_serve": pool.can_serve, **counts, **_ailments(pool)}


def _ailments(pool: PoolHealth) -> Mapping[str, str]:
    client = {"client": "rejected"} if pool.client_rejected else {}
    return client | ({"token_endpoint": "down"} if pool.endpoint_down else {})
