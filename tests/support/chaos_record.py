"""What happened to several gateways on one home, as onlookers saw it, and what of it must not happen."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from support.tcp_shim import LOSSY, Exchange, Fate

NOTICED_SECONDS = 1.5
"""A gateway notices what others wrote within a second; the rest is for a busy machine."""
AFTERWARDS_SECONDS = 3.0
"""An account that dies is known to be dead so long after: until then its file says that it could serve."""
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
    """A gateway that was ended on purpose, until it listened again. Its process was gone at `dead_at`."""

    gateway: int
    killed: bool
    begun_at: float
    dead_at: float = float("inf")
    ended_at: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """An account found disabled, and the fingerprint of the refresh token it holds."""

    account: str
    reason: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedVerb:
    """The command line said no. `token`: the fingerprint of the refresh token it was given, where it was given one."""

    verb: str
    output: str
    token: str | None = None


@dataclass(slots=True)
class Record:
    """All that happened."""

    calls: list[Call] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    losses: set[Loss] = field(default_factory=set)
    verbs: Counter[str] = field(default_factory=Counter)
    refusals: list[RefusedVerb] = field(default_factory=list)
    ready: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    still_refresh: set[str] = field(default_factory=set)

    @property
    def kills(self) -> int:
        return sum(outage.killed for outage in self.outages)

    def wrong(self, exchanges: Sequence[Exchange]) -> list[str]:
        """Everything that must not happen under any losses and kills, in words."""
        by_token: dict[str, list[Exchange]] = defaultdict(list)
        for exchange in exchanges:
            if exchange.token is not None:
                by_token[exchange.token].append(exchange)
        found = [
            *self._wrong_answers(),
            *self._wrong_losses(by_token),
            *self._wrong_presentations(by_token),
            *self._wrong_refusals(by_token),
        ]
        return found + [f"for comparison: {outage}" for outage in self.outages if found]

    # --- requests -------------------------------------------------------------------------------------------------

    def _wrong_answers(self) -> Iterator[str]:
        for call in self.calls:
            if not self._is_documented(call):
                yield f"{call} had no documented answer"
        # Stricter than the promise, which allows a documented problem: who could serve has to. But twice in a row, for
        # a starved machine may let a token that lives for seconds end on its way to the wire.
        for gateway in {call.gateway for call in self.calls}:
            for call, following in itertools.pairwise(call for call in self.calls if call.gateway == gateway):
                if self._is_needless(call) and self._is_needless(following):
                    yield f"{call} while {sorted(self._ready_throughout(call))} could have served"

    def _is_needless(self, call: Call) -> bool:
        return call.status != 200 and not self._in_outage(call) and bool(self._ready_throughout(call))

    def _is_documented(self, call: Call) -> bool:
        """Whether ever to be expected; from a gateway that is being ended also no answer, or that it failed."""
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

    # --- tokens ---------------------------------------------------------------------------------------------------

    def _wrong_losses(self, by_token: dict[str, list[Exchange]]) -> Iterator[str]:
        for loss in self.losses:
            if not loss.reason.startswith("rotation_lost:"):
                yield f"{loss} blames the provider"
            if not any(self._was_lost(*pair) for pair in _with_next(by_token[loss.token])):
                yield f"{loss}: no answer to its token was lost"

    def _wrong_presentations(self, by_token: dict[str, list[Exchange]]) -> Iterator[str]:
        """A token is presented again only where the answer to it was lost: what reached us is never lost.

        Where the provider is lenient (a grace window) nothing else would tell.
        """
        for token, presented in by_token.items():
            for exchange, again in _with_next(presented):
                if again is not None and exchange.spent and not self._was_lost(exchange, again):
                    yield f"{token} was presented again although its answer had arrived: {exchange}, {again}"

    def _was_lost(self, exchange: Exchange, again: Exchange | None) -> bool:
        """Whether the token was spent, and its answer lost by the shim or by a gateway's death.

        Any kill before the token came again may have been that of the gateway that held the answer: how soon it is
        written depends on the machine, and which gateway asked is not to be seen from outside. What a process sent
        before it was gone may have been taken in only then.
        """
        if not exchange.spent:
            return False
        until = float("inf") if again is None else again.begun_at
        return exchange.fate in LOSSY or any(
            outage.killed and exchange.begun_at <= outage.dead_at and outage.begun_at <= until
            for outage in self.outages
        )

    # --- the command line -----------------------------------------------------------------------------------------

    def _wrong_refusals(self, by_token: dict[str, list[Exchange]]) -> Iterator[str]:
        """Only what asks the token endpoint may fail, and an `add` only if an answer to its own token did.

        Why a `refresh` failed can't be told from outside: the account may have died or been replaced meanwhile.
        """
        for refusal in self.refusals:
            passed = all(exchange.fate in {Fate.PASS, Fate.DELAY} for exchange in by_token[refusal.token or ""])
            if "Traceback" in refusal.output or refusal.verb in {"pause", "resume"}:
                yield f"{refusal}"
            elif refusal.verb == "add" and passed:
                yield f"{refusal}: though every answer arrived"


def _with_next(presented: Sequence[Exchange]) -> Iterator[tuple[Exchange, Exchange | None]]:
    return zip(presented, [*presented[1:], None], strict=True)
