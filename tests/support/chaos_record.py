"""What happened to several gateways on one home, as onlookers saw it, and what of it must not happen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.tcp_shim import LOSSY, Exchange

NOTICED_SECONDS = 1.5
"""A gateway notices what others wrote within a second; the rest is for a busy machine."""
AFTERWARDS_SECONDS = 3.0
KILL_SECONDS = 1.0
"""So long after an answer was passed on a kill may have come before it was written."""
DOCUMENTED = frozenset({"pool_exhausted", "token_endpoint_unavailable", "pool_misconfigured"})
"""What a gateway may answer itself when it has no live token; its other codes have no place here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request and its end, times of the monotonic clock. `status` is None when no answer came."""

    gateway: int
    begun_at: float
    ended_at: float
    status: int | None
    code: str | None = None
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Outage:
    """A gateway that was ended on purpose, until it listened again."""

    gateway: int
    killed: bool
    begun_at: float
    ended_at: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """An account found disabled, and the fingerprint of the refresh token it holds."""

    account: str
    reason: str
    token: str


@dataclass(slots=True)
class Record:
    """All that happened."""

    calls: list[Call] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    losses: set[Loss] = field(default_factory=set)
    verbs: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    ready: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    still_refresh: set[str] = field(default_factory=set)

    @property
    def kills(self) -> int:
        return sum(outage.killed for outage in self.outages)

    def wrong(self, exchanges: Sequence[Exchange]) -> list[str]:
        """Everything that must not happen under any losses and kills, in words."""
        found = [f"{call} had no documented answer" for call in self.calls if not self._is_documented(call)]
        found += [
            f"{call} while {sorted(ready)} could have served"
            for call in self.calls
            if call.status not in {None, 200} and not self._in_outage(call) and (ready := self._ready_throughout(call))
        ]
        for loss in self.losses:
            if not loss.reason.startswith("rotation_lost:"):
                found.append(f"{loss} blames the provider")
            if not any(self._was_lost(exchange) for exchange in exchanges if exchange.token == loss.token):
                found.append(f"{loss}: no answer to its token was lost")
        found += [line for line in self.refusals if "Traceback" in line]
        return found

    def _is_documented(self, call: Call) -> bool:
        if call.status == 200 or call.code in DOCUMENTED:
            return True
        return self._in_outage(call) and (call.status is None or call.code == "gateway_error")

    def _in_outage(self, call: Call) -> bool:
        """Whether its gateway was ended, or ending, meanwhile."""
        return any(
            outage.gateway == call.gateway and outage.begun_at <= call.ended_at and call.begun_at <= outage.ended_at
            for outage in self.outages
        )

    def _ready_throughout(self, call: Call) -> frozenset[str]:
        """Who was ready from before the call until well after it: nobody knew of anything against them."""
        begin, end = call.begun_at - NOTICED_SECONDS, call.ended_at + AFTERWARDS_SECONDS
        seen = [ready for at, ready in self.ready if begin <= at <= end]
        whole = self.ready[0][0] <= begin and end <= self.ready[-1][0]
        return frozenset.intersection(*seen) if whole and seen else frozenset()

    def _was_lost(self, exchange: Exchange) -> bool:
        """Whether the token was spent, and its answer lost by the shim or by a gateway's death."""
        if not exchange.spent:
            return False
        if exchange.fate in LOSSY:
            return True
        until = (exchange.passed_at or exchange.begun_at) + KILL_SECONDS
        return any(outage.killed and exchange.begun_at <= outage.begun_at <= until for outage in self.outages)
