"""The lanes of one pool: one for all requests, and for a while one for each kind that some account is cooling for."""

import random
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet

from authpool.accounts.account import AccountKey
from authpool.pool.lane import Lane, Throttle
from authpool.rotation.quota import Quota
from authpool.rotation.rotation import Rotation, RotationRequest

ALL = ""
"""The name of the lane of all requests."""
MOST_LANES = 32
"""Each lane hears of every request, so there are no more than a pool can afford."""
SWEEP_SECONDS = 30.0
"""So often lanes are looked through for cooldowns that nobody asks for any more."""


class Lanes:
    """Who serves, lane by lane. An account serves in a lane of its own kind only while it serves in the one of all."""

    def __init__(self, make_rotation: Callable[[], Rotation], rng: random.Random) -> None:
        self._make_rotation = make_rotation
        self._rng = rng
        self.everyone = Lane(make_rotation(), rng)
        self.kinds: dict[str, Lane] = {}
        self._sweep_at = 0.0
        self.in_flight: dict[AccountKey, set[object]] = {}
        """Which requests are under way on an account; none is there where nobody is."""
        self.quotas: dict[AccountKey, Quota] = {}

    @property
    def needs_body(self) -> bool:
        return self.everyone.rotation.needs_body

    def choose(self, request: RotationRequest, tried: Collection[AccountKey], lane: str) -> AccountKey | None:
        return self.kinds.get(lane, self.everyone).choose(request, tried)

    def throttle(self, key: AccountKey, lane: str = ALL) -> Throttle | None:
        """The account's cooldown for requests of a lane, or for all of them."""
        found = self.everyone if lane == ALL else self.kinds.get(lane)
        return None if found is None else found.throttles.get(key)

    def throttles(self, lane: str) -> Mapping[AccountKey, Throttle]:
        """The cooldowns of a lane."""
        found = self.everyone if lane == ALL else self.kinds.get(lane)
        return {} if found is None else found.throttles

    def place(self, key: AccountKey, now: float, *, able: bool) -> None:
        """Make every rotation hold the account exactly while it can serve there; `able`: as far as it goes itself."""
        (self.everyone.admit if able else self.everyone.dismiss)(key, now)
        serves = key in self.everyone
        for lane in self.kinds.values():
            (lane.admit if serves else lane.dismiss)(key, now)

    def forget(self, key: AccountKey, now: float) -> None:
        """The account was removed."""
        self.place(key, now, able=False)
        for lane in self._all():
            lane.lift(key, now)
        for _ in self.in_flight.pop(key, ()):  # what is under way counts for nobody any more
            for lane in self._all():
                lane.rotation.finished(key)
        self.quotas.pop(key, None)

    def began(self, key: AccountKey, holder: object, lane: str, now: float) -> bool:
        """A request of that lane has the account; whether anybody's turn changed by that."""
        holders = self.in_flight.get(key)
        if holders is None:
            holders = self.in_flight[key] = set()
        if holder in holders:
            return False
        holders.add(holder)
        for one in self._all():
            one.rotation.started(key)
        turns = [one.began(key, holder, now) for one in self._of(lane)]  # all of them, so no generator
        return any(turns)

    def ended(self, key: AccountKey, holder: object, lane: str, now: float) -> bool:
        """A request is over; one of an account that was removed meanwhile counts for nothing."""
        holders = self.in_flight.get(key)
        if holders is not None and holder in holders:
            holders.remove(holder)
            if not holders:
                del self.in_flight[key]
            for one in self._all():
                one.rotation.finished(key)
        turns = [one.ended(key, holder, now) for one in self._of(lane)]
        return any(turns)

    def observe(self, key: AccountKey, quota: Quota) -> None:
        self.quotas[key] = quota
        for one in self._all():
            one.rotation.observe(key, quota)

    def cool(
        self,
        key: AccountKey,
        until: float | None,
        reason: str,
        *,
        lane: str,
        sent_at: float,
        now: float,
        latest: float | None = None,
        path: str = "",
    ) -> Throttle:
        """An upstream told the account to pause; see `Lane.cool`."""
        return self._lane(lane, now).cool(key, until, reason, sent_at=sent_at, now=now, latest=latest, path=path)

    def restore(self, key: AccountKey, throttle: Throttle, lane: str, now: float) -> None:
        """Take over a cooldown that was noted elsewhere."""
        self._lane(lane, now).restore(key, throttle, now)

    def lift(self, key: AccountKey, lane: str, now: float) -> None:
        """End a cooldown."""
        found = self.everyone if lane == ALL else self.kinds.get(lane)
        if found is not None:
            found.lift(key, now)
            self._drop_idle()

    def proved(self, key: AccountKey, *, lane: str, sent_at: float, now: float) -> bool:
        """An upstream served the account; whether that ended a cooldown."""
        ended = [one.proved(key, sent_at, now) for one in self._of(lane)]
        if any(ended):
            self._drop_idle()
        return any(ended)

    def thaw(self, now: float) -> list[AccountKey]:
        """Let those serve whose time has come; answers whose state for all requests may be another now."""
        for lane in self.kinds.values():
            lane.thaw(now)
        if self.kinds and now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            for lane in self.kinds.values():
                lane.forget_old(now)
            self._drop_idle()
        return self.everyone.thaw(now)

    def shift(self, seconds: float, now: float) -> None:
        """The wall clock was put forward or back; see `Lane.shift`."""
        self._sweep_at += seconds
        for lane in self._all():
            lane.shift(seconds, now)

    def next_end(self, lane: str) -> float | None:
        """When the next account may come back to a lane (Unix seconds); None while none is cooling."""
        return min((end for one in self._of(lane) if (end := one.next_end()) is not None), default=None)

    def inherit(
        self, former: "Lanes", keys: AbstractSet[AccountKey], now: float, *, kinds: bool
    ) -> AbstractSet[AccountKey]:
        """Carry over cooldowns (with `kinds` those of one kind of request too), what is in flight, and quotas.

        Answers whose state may be another by that.
        """
        for key in former.in_flight.keys() & keys:
            self.in_flight[key] = set(former.in_flight[key])
            for _ in self.in_flight[key]:
                for one in self._all():
                    one.rotation.started(key)
        for key in former.quotas.keys() & keys:
            self.observe(key, former.quotas[key])
        lanes = {ALL: former.everyone} | (former.kinds if kinds else {})
        touched: set[AccountKey] = set()
        for name, lane in lanes.items():
            for key in lane.throttles.keys() & keys:
                self._lane(name, now).inherit(key, lane.throttles[key], now)
                touched.add(key)
        return touched

    def _all(self) -> list[Lane]:
        return [self.everyone, *self.kinds.values()]

    def _of(self, name: str) -> list[Lane]:
        kind = self.kinds.get(name)
        return [self.everyone] if kind is None else [self.everyone, kind]

    def _lane(self, name: str, now: float) -> Lane:
        """The lane of that name, made when it is needed; the one that is free first makes room for it."""
        if name == ALL:
            return self.everyone
        if name not in self.kinds:
            if len(self.kinds) >= MOST_LANES:
                del self.kinds[min(self.kinds, key=lambda one: self.kinds[one].next_end() or 0.0)]
            self.kinds[name] = self._new_lane(now)
        return self.kinds[name]

    def _new_lane(self, now: float) -> Lane:
        lane = Lane(self._make_rotation(), self._rng)
        for key in self.everyone.serving():
            lane.admit(key, now)
        for key, holders in self.in_flight.items():
            for _ in holders:
                lane.rotation.started(key)
        for key, quota in self.quotas.items():
            lane.rotation.observe(key, quota)
        return lane

    def _drop_idle(self) -> None:
        self.kinds = {name: lane for name, lane in self.kinds.items() if lane.throttles}
