"""What one rotation did in one kind of play."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, median

from .plan import Plan


@dataclass(slots=True, kw_only=True)
class Tally:
    """What is counted while a play is on, after its warm-up; accounts go by their numbers."""

    statuses: Counter[int] = field(default_factory=Counter)
    """Of the answers that clients saw."""
    sent: Counter[int] = field(default_factory=Counter)
    served: Counter[int] = field(default_factory=Counter)
    limits: dict[int, float] = field(default_factory=dict)
    """How many requests each account could have served meanwhile, those that lived for at least half of it."""
    followers: int = 0
    """Requests served whose session had been served before."""
    hits: int = 0
    """Those of them that the same account served as the session's last."""
    waits: list[float] = field(default_factory=list)
    """Seconds until the answer, of requests that were served."""
    choice_ns: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One line of the table. Shares are of 1; all but `choice_us` are the same for the same seed."""

    rotation: str
    accounts: int
    load: float
    quota_share: float
    requests: int
    served: int
    refused_429: int
    """Upstreams' own 429, after `max_accounts` were tried."""
    refused_503: int
    """The gateway's: every account is cooling or out."""
    refused_otherwise: int
    attempts: int
    fairness: float
    """Jain's index of what each account served in relation to its limit: 1 is as fair as can be, 1/n is one for all."""
    busiest: float
    """The most requests that were sent on one account, by the mean."""
    session_hits: float
    p95_seconds: float
    choice_us: float = field(compare=False)
    """Wall time of `Pool.choose`, the median."""

    @property
    def served_share(self) -> float:
        return self.served / self.requests

    @property
    def refused_per_1000(self) -> float:
        return self.per_1000(self.requests - self.served)

    def per_1000(self, count: int) -> float:
        return 1000 * count / self.requests

    @property
    def attempts_per_request(self) -> float:
        return self.attempts / self.requests


def figures(rotation: str, plan: Plan, tallies: Iterable[Tally]) -> Figures:
    """Put several plays of one kind together: what is counted is added up, indices are averaged."""
    tallies = list(tallies)
    statuses = sum((tally.statuses for tally in tallies), Counter[int]())
    waits = sorted(wait for tally in tallies for wait in tally.waits)
    followers = sum(tally.followers for tally in tallies)
    return Figures(
        rotation=rotation,
        accounts=plan.accounts,
        load=plan.load,
        quota_share=plan.quota_share,
        requests=statuses.total(),
        served=statuses[200],
        refused_429=statuses[429],
        refused_503=statuses[503],
        refused_otherwise=statuses.total() - statuses[200] - statuses[429] - statuses[503],
        attempts=sum(tally.sent.total() for tally in tallies),
        fairness=fmean(jain([tally.served[n] / limit for n, limit in tally.limits.items()]) for tally in tallies),
        busiest=fmean(max(tally.sent.values(), default=0) * plan.accounts / tally.sent.total() for tally in tallies),
        session_hits=sum(tally.hits for tally in tallies) / followers if followers else 0.0,
        p95_seconds=waits[int(0.95 * len(waits))] if waits else 0.0,
        choice_us=median(ns for tally in tallies for ns in tally.choice_ns) / 1000,
    )


def jain(shares: list[float]) -> float:
    """How even shares are (Jain, Chiu and Hawe, 1984)."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
