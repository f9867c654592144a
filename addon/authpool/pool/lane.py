"""A lane of a pool: the accounts that can serve requests of one kind, and those that upstreams told to pause.

Every pool has one lane for all requests. Where cooldowns are counted apart, by model say, a kind of request that
some account is cooling for has a lane of its own for that long.
"""

import heapq
import random
from collections.abc import Collection
from dataclasses import dataclass, replace

from authpool.accounts.account import AccountKey
from authpool.accounts.standing import TOKEN_REFUSED
from authpool.rotation.rotation import Rotation, RotationRequest

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 300.0
"""An account that is told to pause, and not for how long, pauses so long: doubled each time, up to the longest."""
PROBE_SECONDS = 60.0
"""So long a probe may be without an answer before another request may be the probe."""


@dataclass(slots=True, kw_only=True)
class Throttle:
    """An account's cooldown in a lane (Unix seconds), and the one request that finds out whether it is over."""

    since: float
    until: float
    reason: str
    strikes: int = 1
    path: str = ""
    """For which path the upstream asked for it, where that was one alone; empty where nobody knows."""
    prober: object | None = None
    probing_until: float = 0.0

    @property
    def of_token(self) -> bool:
        """Whether an upstream refused the account's tokens, rather than asked for a pause."""
        return self.reason.startswith(TOKEN_REFUSED)

    def blocks(self, now: float) -> bool:
        return now < self.until or (self.prober is not None and now < self.probing_until)


class Lane:
    """A rotation that holds exactly the accounts that can serve and are neither cooling nor being probed."""

    def __init__(self, rotation: Rotation, rng: random.Random) -> None:
        self.rotation = rotation
        self.throttles: dict[AccountKey, Throttle] = {}
        self._rng = rng
        self._admitted: set[AccountKey] = set()
        self._serving: set[AccountKey] = set()
        self._ends: list[tuple[float, AccountKey]] = []

    def __contains__(self, key: AccountKey) -> bool:
        """Whether the account serves here."""
        return key in self._serving

    def serving(self) -> Collection[AccountKey]:
        """Who serves here."""
        return tuple(self._serving)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        return self.rotation.choose(request, tried)

    def admit(self, key: AccountKey, now: float) -> None:
        """The account could serve, as far as its own state goes."""
        if key not in self._admitted:
            self._admitted.add(key)
            self._note_ends(key)
        self.place(key, now)

    def dismiss(self, key: AccountKey, now: float) -> None:
        self._admitted.discard(key)
        self.place(key, now)

    def place(self, key: AccountKey, now: float) -> None:
        """Make the rotation hold the account exactly while it serves here."""
        throttle = self.throttles.get(key)
        serves = key in self._admitted and not (throttle is not None and throttle.blocks(now))
        if serves and key not in self._serving:
            self._serving.add(key)
            self.rotation.add(key)
        elif not serves and key in self._serving:
            self._serving.remove(key)
            self.rotation.remove(key)

    def cool(
        self,
        key: AccountKey,
        until: float | None,
        reason: str,
        *,
        sent_at: float,
        now: float,
        latest: float | None = None,
        path: str = "",
    ) -> Throttle:
        """An upstream told the account to pause, until a time or for as long as we see fit, until `latest` at most.

        Answers to requests that were sent before the pause was over are of one burst with the answer that began it:
        they may make it longer, and never count again. Requests that had the account already go out in it, too.
        """
        if until is not None and latest is not None:
            until = min(until, latest)
        throttle = self.throttles.get(key)
        if throttle is None:
            throttle = Throttle(since=now, until=0.0, reason=reason, strikes=0)
        elif sent_at < throttle.until:
            throttle.path = throttle.path if throttle.path == path else ""
            if until is not None and until > throttle.until:
                throttle.until, throttle.reason = until, reason
                self._restore(key, throttle, now)
            return throttle
        throttle.strikes += 1
        wait = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(throttle.strikes - 1, 20))
        throttle.since = now
        throttle.until = now + wait * self._rng.uniform(0.75, 1.25) if until is None else until
        if latest is not None and latest > now:
            throttle.until = min(throttle.until, latest)
        throttle.reason, throttle.prober, throttle.path = reason, None, path
        self._restore(key, throttle, now)
        return throttle

    def _restore(self, key: AccountKey, throttle: Throttle, now: float) -> None:
        self.throttles[key] = throttle
        self._note_ends(key)
        self.place(key, now)

    def _note_ends(self, key: AccountKey) -> None:
        throttle = self.throttles.get(key)
        if throttle is not None:
            heapq.heappush(self._ends, (throttle.until, key))
            if throttle.prober is not None:
                heapq.heappush(self._ends, (throttle.probing_until, key))

    def restore(self, key: AccountKey, throttle: Throttle, now: float) -> None:
        """Take over a cooldown that was noted elsewhere: before a restart, or by another process."""
        known = self.throttles.get(key)
        if known is None:
            self._restore(key, throttle, now)
        elif known.until + 1 <= throttle.until:  # what was written down is in whole seconds
            known.until, known.reason = throttle.until, throttle.reason
            self._restore(key, known, now)

    def inherit(self, key: AccountKey, former: Throttle, now: float) -> None:
        """Take over a cooldown as it was before a reload, its strikes and its probe with it."""
        known = self.throttles.get(key)
        throttle = replace(former)
        if known is not None and known.until > former.until + 1:  # somebody wrote a longer one down meanwhile
            throttle.until, throttle.reason = known.until, known.reason
        self._restore(key, throttle, now)

    def lift(self, key: AccountKey, now: float) -> bool:
        """End a cooldown."""
        lifted = self.throttles.pop(key, None) is not None
        if lifted:
            self.place(key, now)
        return lifted

    def probe_soon(self, now: float) -> list[AccountKey]:
        """Let the probes come now of those whose tokens were refused; answers who they are."""
        waiting = [key for key, one in self.throttles.items() if one.of_token and one.until > now]
        for key in waiting:
            self.throttles[key].until = now
            self._note_ends(key)
            self.place(key, now)
        return waiting

    def began(self, key: AccountKey, holder: object, now: float) -> bool:
        """A request got the account. After a cooldown the first one is the probe, and the others wait for it."""
        throttle = self.throttles.get(key)
        if throttle is None or throttle.blocks(now):
            return False
        throttle.prober, throttle.probing_until = holder, now + PROBE_SECONDS
        self._note_ends(key)
        self.place(key, now)
        return True

    def ended(self, key: AccountKey, holder: object, now: float) -> bool:
        """A request is over; if it was the probe and told nothing, the next one is."""
        throttle = self.throttles.get(key)
        if throttle is None or throttle.prober is not holder:
            return False
        throttle.prober = None
        self.place(key, now)
        return True

    def proved(self, key: AccountKey, sent_at: float, now: float) -> bool:
        """An upstream served the account; whether that ended a cooldown: not if it was sent before that was over."""
        throttle = self.throttles.get(key)
        return throttle is not None and sent_at >= throttle.until and self.lift(key, now)

    def thaw(self, now: float) -> list[AccountKey]:
        """Let those serve whose time has come, and answer who they may be."""
        thawed = []
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            self.place(key, now)
            thawed.append(key)
        return thawed

    def forget_old(self, now: float) -> None:
        """Forget cooldowns that have been over for so long that how often they came says nothing any more."""
        for key, throttle in list(self.throttles.items()):
            if throttle.until + LONGEST_SECONDS <= now and not throttle.blocks(now):
                self.lift(key, now)

    def shift(self, seconds: float, now: float) -> None:
        """The wall clock was put forward or back: waits last as long as they would have."""
        for throttle in self.throttles.values():
            throttle.since += seconds
            throttle.until += seconds
            throttle.probing_until += seconds
        self._ends.clear()
        for key in self.throttles:
            self._note_ends(key)
            self.place(key, now)

    def next_end(self) -> float | None:
        """When the next account may come back (Unix seconds); None while none is cooling."""
        while self._ends:
            at, key = self._ends[0]
            throttle = self.throttles.get(key)
            if throttle is not None and key in self._admitted and at in {throttle.until, throttle.probing_until}:
                return throttle.until if throttle.prober is not None else at  # a probe may be back at any moment
            heapq.heappop(self._ends)
        return None
