"""Whether an upstream's pause is about the accounts, or about the one path that asks every account for it.

A pause is taken for the account's. Where nobody can serve because all were told to pause for one path, a request for
another path is tried all the same: served, the pause was that path's, and stays with it; told to pause as well, it is
the accounts'.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from authpool.accounts.account import AccountKey
from authpool.pool.lane import PROBE_SECONDS
from authpool.pool.lanes import ALL, Lanes
from authpool.pool.member import Member
from authpool.rotation.rotation import RotationRequest

_MARK = "path sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspectedPath:
    """A path that asked for pauses which are not the accounts': `moved` are theirs, until when (Unix seconds)."""

    path: str
    lane: str
    own_lane: str
    moved: Mapping[AccountKey, float]


def path_of(request: RotationRequest) -> str:
    """The path of a request, without the query."""
    return request.path.partition("?")[0]


class PathPauses:
    """What a pool knows of paths that ask for pauses; `changed` is told of each member whose state may be another."""

    def __init__(self, members: Mapping[AccountKey, Member], lanes: Lanes, changed: Callable[[Member], None]) -> None:
        self._members = members
        self._lanes = lanes
        self._changed = changed
        self._trials: dict[AccountKey, float] = {}
        """Who is being tried on another path, and until when (Unix seconds) that may take."""

    def lane_of(self, lane: str, request: RotationRequest) -> str:
        """The lane of a request: its path's own one while that is suspected."""
        if not self._lanes.kinds:  # nearly always
            return lane
        own = _own_lane(lane, path_of(request))
        return own if own in self._lanes.kinds else lane

    def choose(self, request: RotationRequest, tried: Collection[AccountKey], lane: str, now: float) -> Member | None:
        """Somebody for a request that nobody can serve, because all were told to pause for one other path."""
        blocked = self._blocked(lane, now)
        paths = set(blocked.values())
        if len(paths) != 1 or paths & {"", path_of(request)}:
            return None
        free = (key for key in blocked if key not in tried and self._trials.get(key, 0.0) <= now)
        key = next(free, None)
        if key is None:
            return None
        self._trials[key] = now + PROBE_SECONDS
        return self._members[key]

    def _blocked(self, lane: str, now: float) -> dict[AccountKey, str]:
        """Who could serve but for a pause, and for which path that was."""
        found: dict[AccountKey, str] = {}
        for name in {ALL, lane}:
            throttles = self._lanes.throttles(name)
            for key, throttle in throttles.items():
                member = self._members.get(key)
                if throttle.blocks(now) and not throttle.of_token and member is not None and not member.is_out(now):
                    found[key] = throttle.path if found.get(key, throttle.path) == throttle.path else ""
        return found

    def served(self, member: Member, request: RotationRequest, sent_at: float, now: float) -> SuspectedPath | None:
        """An upstream served the account; the path whose pauses are not the accounts', if that shows one."""
        self._trials.pop(member.key, None)
        for lane in (ALL, *self._lanes.kinds):
            throttle = self._lanes.throttle(member.key, lane)
            if _MARK in lane or throttle is None or throttle.of_token or throttle.path in {"", path_of(request)}:
                continue
            if throttle.blocks(now) and sent_at >= throttle.since:
                return self._move(lane, throttle.path, now)
        return None

    def told(self, member: Member, lane: str, path: str, now: float) -> None:
        """An upstream told the account to pause: what was put down to another path is the accounts'."""
        if self._trials.pop(member.key, 0.0) > now:
            for throttle in self._lanes.throttles(lane).values():
                if throttle.path != path:
                    throttle.path = ""

    def _move(self, lane: str, path: str, now: float) -> SuspectedPath:
        own_lane = _own_lane(lane, path)
        of_path = {
            key: throttle
            for key, throttle in self._lanes.throttles(lane).items()
            if throttle.path == path and not throttle.of_token and key in self._members
        }
        for key, throttle in of_path.items():
            self._lanes.lift(key, lane, now)
            self._lanes.restore(key, throttle, own_lane, now)
            self._trials.pop(key, None)
            self._changed(self._members[key])
        moved = {key: throttle.until for key, throttle in of_path.items() if throttle.until > now}
        return SuspectedPath(path=path, lane=lane, own_lane=own_lane, moved=moved)


def _own_lane(lane: str, path: str) -> str:
    """Its name goes into files, and a path may be long, or have anything in it."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{lane} {_MARK}{digest}".strip()
