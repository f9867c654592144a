"""Whether an upstream's refusal of a token speaks against the account, or against what it was asked for. Pure.

An upstream says 401 for a dead token, and also for what no token may do. One request that is refused to everybody
must not take accounts out that serve all others; an account that nobody serves must not stay in the rotation.
"""

from dataclasses import dataclass, field

from authpool.accounts.account import AccountKey
from authpool.rotation.rotation import RotationRequest

CURE_SECONDS = 60.0
"""In so long an account is refreshed once because of 401s, and once more if the token from that one served."""
SEVERAL_PATHS = 3
"""So many paths refused, and nothing served in between: that is the account, whatever it served before."""
SURE_COUNT = 2
"""So often refused, one after the other, what the pool had been served before: likewise."""
MOST_PATHS = 16
MOST_TARGETS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedToken:
    """An upstream refused the token of a request's account: bad, whatever its `expires_at` says, or not enough."""

    pool: str
    key: AccountKey
    access_token: str = field(repr=False)
    request: RotationRequest
    sent_at: float
    renewed: bool = False
    """Whether the account was refreshed for this very request."""

    @property
    def path(self) -> str:
        return self.request.path.partition("?")[0]


@dataclass(slots=True, kw_only=True)
class Refusals:
    """What upstreams refused to one account since it last served, and the refreshes that led to (Unix seconds)."""

    count: int = 0
    last_at: float = 0.0
    paths: set[str] = field(default_factory=set)
    refreshed_at: tuple[float, ...] = ()
    """The last two refreshes that a 401 led to, the newer first."""
    generation: int = -1
    """Of the account after the newer one."""
    served_since: bool = False

    def served(self) -> None:
        """The account served a request: what was refused before was those requests' own fault."""
        self.count = 0
        self.paths.clear()
        self.served_since = True

    def refused(self, refused: RefusedToken, now: float) -> None:
        """Count a refusal; those of requests that were sent before the last one came are of one burst with it."""
        if refused.sent_at >= self.last_at:
            self.count += 1
            self.last_at = now
        if len(self.paths) < MOST_PATHS:
            self.paths.add(refused.path)

    def speak_against_account(self, *, has_served: bool, known: bool, sure: int = SURE_COUNT) -> bool:
        """Whether this is the account's fault. `known`: the pool was served before what is refused now."""
        return not has_served or len(self.paths) >= SEVERAL_PATHS or (known and self.count >= sure)

    def may_refresh(self, now: float) -> bool:
        """Whether a 401 is worth a refresh: the evidence that none is does not renew itself."""
        return now >= self.next_refresh_at

    @property
    def next_refresh_at(self) -> float:
        """From when on a 401 is worth a refresh."""
        counting = self.refreshed_at[self.served_since :]  # what served was a cure, and one more may be
        return counting[0] + CURE_SECONDS if counting else 0.0

    def refreshed(self, generation: int, now: float) -> None:
        """A 401 led to a refresh; many requests may tell of the same one."""
        if generation != self.generation:
            self.generation = generation
            self.refreshed_at = (now, *self.refreshed_at[:1])
            self.served_since = False

    def shift(self, seconds: float) -> None:
        """The wall clock was put forward or back."""
        self.last_at += seconds
        self.refreshed_at = tuple(at + seconds for at in self.refreshed_at)


class ServedTargets:
    """What the accounts of a pool were served, by method and target; the oldest are forgotten."""

    def __init__(self) -> None:
        self._targets: dict[int, None] = {}

    def add(self, request: RotationRequest) -> None:
        target = hash((request.method, request.path))
        if target not in self._targets:
            if len(self._targets) >= MOST_TARGETS:
                del self._targets[next(iter(self._targets))]
            self._targets[target] = None

    def __contains__(self, request: RotationRequest) -> bool:
        return hash((request.method, request.path)) in self._targets
