"""One request's hold on a pool."""

from dataclasses import dataclass, field
from typing import Literal

from authpool.accounts.account import Account, AccountKey
from authpool.pool.refused_token import RefusedToken
from authpool.requests.refusals import Refusal
from authpool.rotation.rotation import RotationRequest


@dataclass(slots=True, kw_only=True, eq=False)
class PooledRequest:
    """One request's hold on a pool: what it was given, and everything it was tried on.

    The access token is here and on the wire, and nowhere else; a closed one has none, and never gets one again.
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
    refused: dict[AccountKey, tuple[RefusedToken, bool]] = field(default_factory=dict)
    """The accounts whose last token was refused; and whether that was so because no newer one could be had."""
    suspect: AccountKey | None = None
    """The account it was given although its token was refused elsewhere: nobody else could serve."""
    failed_over: bool = False
    """Whether it went on with another account than its first."""
    waited_seconds: float = 0.0
    """So long it waited for a token, at all its attempts together."""
    closed: bool = False
    trail: list[str] = field(default_factory=list)
    refusal: Refusal | None = None
    endpoint_failures: int = 0
    endpoint_down: bool = False
    store_down: bool = False
    misconfigured: bool = False

    @property
    def served_by(self) -> str:
        """``POOL/NAME`` of the account that the answer is from; the pool alone where there is none."""
        return self.pool if self.refusal is not None or not self.address else self.address

    def note_down(self, cause: Literal["endpoint", "store", "account"]) -> None:
        """Note whose fault it was that a refresh did not work."""
        self.endpoint_down = self.endpoint_down or cause == "endpoint"
        self.store_down = self.store_down or cause == "store"

    def refused_token(self) -> RefusedToken | None:
        """What an upstream's refusal of its token is about; None without an account."""
        if self.key is None or self.closed:
            return None
        return RefusedToken(
            pool=self.pool,
            key=self.key,
            access_token=self.access_token,
            request=self.request,
            sent_at=self.sent_at,
            renewed=self.key in self.refreshed,
        )

    def comment(self, outcome: str) -> str:
        """What mitmweb shows beside the flow, the account first; never a secret."""
        parts = [self.served_by, f"attempts={self.sends}", f"outcome={outcome}", f"rotation={self.rotation}"]
        parts += [f"client={self.request.client}"] if self.request.client else []
        return " ".join(parts) + (f" ({'; '.join(self.trail)})" if self.trail else "")
