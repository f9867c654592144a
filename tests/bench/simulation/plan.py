"""What a simulation plays: accounts with random limits and failures, and the requests that come. Drawn from a seed."""

import bisect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

RATE_PER_SECOND = (3 / 60, 30 / 60)
BURST = (1.0, 10.0)
"""Requests; like the rate, drawn so that each tenfold part of the range is as likely as another."""
RETRY_AFTER_SHARE = 1 / 2
QUOTA_SHARE = 1 / 3
"""So many accounts' upstreams tell, with a 429, when to come again, and with each answer, what is left."""
SLOW_SHARE = 1 / 10
SLOWNESS = 5.0
LIVES_SECONDS, OUT_SECONDS = 5000.0, 250.0
"""How long a grant lives and how long a dead one is out, on average: one account in twenty is out."""
LATENCY_SECONDS = 0.5
LATENCY_SIGMA = 0.6
"""Median and spread of an upstream's time to answer (log-normal)."""
SESSIONS_PER_ACCOUNT = 2
REQUESTS_PER_SESSION = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """How an API treats one account: a token bucket, what it tells of it, and when the account's grant is dead."""

    rate: float
    burst: float
    level: float
    tells_retry_after: bool
    tells_quota: bool
    slowness: float
    deaths: tuple[float, ...]
    """When its grant dies and when a new one is there, in turns, in seconds of the play."""

    def dead(self, at: float) -> bool:
        return bool(bisect.bisect_right(self.deaths, at) % 2)

    def alive_seconds(self, begin: float, end: float) -> float:
        """How much of a span its grants live."""
        marks = [begin, *(at for at in self.deaths if begin < at < end), end]
        return sum(after - before for before, after in itertools.pairwise(marks) if not self.dead(before))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of a session: when it comes, and how long an upstream of usual speed takes for it (seconds)."""

    at: float
    session: int
    latency_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One play. It is the same for every rotation: same accounts, same deaths, same requests."""

    accounts: int
    load: float
    """Requests as a share of the sum of the limits, those of dead accounts included."""
    seconds: float
    warm_up_seconds: float
    """What comes before is played and not counted."""
    seed: int
    quota_share: float = QUOTA_SHARE

    def upstreams(self) -> list[Upstream]:
        rng = Random(f"accounts {self.seed} {self.accounts}")
        return [self._upstream(rng) for _ in range(self.accounts)]

    def arrivals(self, upstreams: list[Upstream]) -> Iterator[Arrival]:
        """Draw requests as they come at random (Poisson), each of one of the sessions that are open."""
        rng = Random(f"requests {self.seed} {self.accounts} {self.load}")
        per_second = self.load * sum(upstream.rate for upstream in upstreams)
        sessions = list(range(SESSIONS_PER_ACCOUNT * self.accounts))
        begun = len(sessions)
        at = rng.expovariate(per_second)
        while at < self.seconds:
            place = int(rng.random() * len(sessions))
            latency_seconds = LATENCY_SECONDS * math.exp(rng.gauss(0, LATENCY_SIGMA))
            yield Arrival(at=at, session=sessions[place], latency_seconds=latency_seconds)
            if rng.random() < 1 / REQUESTS_PER_SESSION:
                sessions[place] = begun
                begun += 1
            at += rng.expovariate(per_second)

    def _upstream(self, rng: Random) -> Upstream:
        rate, burst = _spread(rng, *RATE_PER_SECOND), _spread(rng, *BURST)
        return Upstream(
            rate=rate,
            burst=burst,
            level=rng.random(),  # nearly empty, as after a while under load
            tells_retry_after=rng.random() < RETRY_AFTER_SHARE,
            tells_quota=rng.random() < self.quota_share,
            slowness=SLOWNESS if rng.random() < SLOW_SHARE else 1.0,
            deaths=tuple(self._deaths(rng)),
        )

    def _deaths(self, rng: Random) -> Iterator[float]:
        at, dead = 0.0, rng.random() < OUT_SECONDS / (LIVES_SECONDS + OUT_SECONDS)
        if dead:
            yield at
        while at < self.seconds:
            at += rng.expovariate(1 / (OUT_SECONDS if dead else LIVES_SECONDS))
            dead = not dead
            yield at


def _spread(rng: Random, lowest: float, highest: float) -> float:
    """Draw log-uniformly."""
    return math.exp(rng.uniform(math.log(lowest), math.log(highest)))
