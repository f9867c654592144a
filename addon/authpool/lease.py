"""One request's hold on a pool."""

from dataclasses import dataclass, field

from authpool.account import Account, AccountKey
from authpool.answers import Refusal
from authpool.rotation import RotationRequest


@dataclass(slots=True, kw_only=True)
class Lease:
    """One request's hold on a pool: what it was given, and everything it was tried on.

    The access token is here and on the wire, and nowhere else.
    """

    pool: str
    rotation: str
    request: RotationRequest
    max_accounts: int
    lane: str = ""
    account: Account | None = field(default=None, repr=False)
    """The account as it was when its token was taken."""
    key: AccountKey | None = None
    address: str = ""
    access_token: str = field(default="", repr=False)
    held: AccountKey | None = None
    """The account that counts this request as in flight."""
    sends: int = 0
    sent_at: float = 0.0
    sent_on: set[AccountKey] = field(default_factory=set)
    tried: set[AccountKey] = field(default_factory=set)
    refreshed: set[AccountKey] = field(default_factory=set)
    cooled: set[AccountKey] = field(default_factory=set)
    waiting_until: float | None = None
    """How long this request may wait for an account to come back (monotonic seconds), once it has begun to."""
    trail: list[str] = field(default_factory=list)
    refusal: Refusal | None = None
    endpoint_failures: int = 0
    endpoint_down: bool = False
    misconfigured: bool = False

    waited_seconds: float = 0.0
    """So long this request has waited for an access token altogether."""

    @property
    def failed_over(self) -> bool:
        """Whether the request went on to another account than its first one."""
        return len(self.sent_on) > 1 or (bool(self.tried) and self.key is not None and self.key not in self.tried)

    @property
    def served_by(self) -> str:
        """``POOL/NAME`` of the account that the answer is from; the pool alone where there is none."""
        return self.pool if self.refusal is not None or not self.address else self.address

    def comment(self, outcome: str) -> str:
        """What mitmweb shows beside the flow, the account first; never a secret."""
        parts = [self.served_by, f"attempts={self.sends}", f"outcome={outcome}", f"rotation={self.rotation}"]
        parts += [f"client={self.request.client}"] if self.request.client else []
        return " ".join(parts) + (f" ({'; '.join(self.trail)})" if self.trail else "")
