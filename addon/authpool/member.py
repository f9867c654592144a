"""One account in a pool: its record, and what only this process knows of it."""

from enum import StrEnum

from authpool.account import Account, fingerprint
from authpool.lane import Throttle
from authpool.store import Record


class State(StrEnum):
    """The states of an account, in the words used everywhere. `disabled` is judged before `paused`.

    `refreshing` is for people: it is `ready` while a refresh is under way, and serves like it.
    """

    READY = "ready"
    REFRESHING = "refreshing"
    COOLING = "cooling"
    PAUSED = "paused"
    DISABLED = "disabled"
    BROKEN = "broken"


class Member:
    """One account in the pool, or (of the account alone) as a command finds it in the store."""

    __slots__ = (
        "advisory_seconds",
        "condemned",
        "cooling_reason",
        "cooling_until",
        "failures",
        "key",
        "mandatory_seconds",
        "record",
        "retry_at",
        "served",
        "settled",
        "throttle",
        "uncured_until",
        "unspared_until",
    )

    def __init__(self, record: Record) -> None:
        self.record = record
        self.key = record.key
        self.served = 0
        self.cooling_until = 0.0
        """After a refresh that failed, with no live token left."""
        self.cooling_reason = ""
        self.throttle: Throttle | None = stored_throttle(record)
        """An upstream told the account to pause, whatever it is asked for."""
        self.condemned: str | None = None
        """Fingerprint of a credential found dead, while the store has not taken that verdict."""
        self.failures = 0
        self.retry_at = 0.0
        """After refreshes that failed: not to be tried again before (Unix seconds)."""
        self.uncured_until = 0.0
        """An upstream refused even a fresh token: until then its 401 is not worth a refresh (Unix seconds)."""
        self.unspared_until = 0.0
        """An operator took it back who knew of its quota: until then it is not spared again (Unix seconds)."""
        self.advisory_seconds = 0.0
        self.mandatory_seconds = 0.0
        self.settled: State | None = None
        """The state the pool last counted it in."""

    @property
    def account(self) -> Account:
        """The account; only to be asked of a member that is not broken."""
        if not isinstance(self.record, Account):
            raise TypeError(f"{self.record.address} is broken")
        return self.record

    def become(self, record: Record, now: float) -> None:
        """The account changed, by anybody's hand."""
        before, self.record = self.record, record
        if credential_changed(before, record):
            self.cooling_until = self.retry_at = self.uncured_until = 0.0
            self.failures = 0
            self.condemned = None
        if not isinstance(record, Account):
            return
        if record.disabled:
            self.condemned = None  # the store knows; from here on its word counts, also when it is taken back
        if isinstance(before, Account) and before.spared() and before.paused(now) and not record.proxy_disabled:
            self.unspared_until = float(before.proxy_disabled_until or 0)

    def inherit(self, former: "Member") -> None:
        """Know what was known of the account before a reload, as far as it is about the same credential."""
        self.served, self.unspared_until = former.served, former.unspared_until
        if not credential_changed(former.record, self.record):
            self.condemned, self.failures, self.retry_at = former.condemned, former.failures, former.retry_at
            self.uncured_until = former.uncured_until

    def state(self, now: float) -> State:
        """Its state; what it is cooling for in one kind of request only does not count."""
        standing = self.standing(now)
        if standing is State.READY and self.throttle is not None and self.throttle.blocks(now):
            return State.COOLING
        return standing

    def standing(self, now: float) -> State:
        """Its state but for what upstreams told it."""
        record = self.record
        if not isinstance(record, Account):
            return State.BROKEN
        if record.disabled or (self.condemned is not None and self.condemned == credential_fingerprint(record)):
            return State.DISABLED
        if record.paused(now):
            return State.PAUSED
        return State.COOLING if self.cooling_until > now else State.READY

    def turns_at(self, now: float) -> float | None:
        """When (Unix seconds) its standing changes by itself; None when it does not."""
        match self.standing(now):
            case State.COOLING:
                return self.cooling_until
            case State.PAUSED if self.account.spared() and self.account.proxy_disabled_until is not None:
                return float(self.account.proxy_disabled_until)
        return None

    def cooling(self, now: float) -> tuple[float, str]:
        """Until when (Unix seconds) and why a cooling account is cooling."""
        if self.throttle is not None and self.throttle.blocks(now) and self.throttle.until >= self.cooling_until:
            return self.throttle.until, self.throttle.reason
        return self.cooling_until, self.cooling_reason


def stored_throttle(record: Record, lane: str = "") -> Throttle | None:
    """The cooldown that an account's record tells of; for all requests, or for one kind of them."""
    for cooldown in record.cooldowns if isinstance(record, Account) else ():
        if cooldown.key == lane:
            return Throttle(since=0.0, until=float(cooldown.until), reason=cooldown.reason)
    return None


def lifted_lanes(before: Record | None, after: Record, now: float) -> list[str]:
    """The lanes whose cooldown somebody took out of an account's record, or made end sooner."""
    theirs = before.cooldowns if isinstance(before, Account) else ()
    kept = {one.key: one.until for one in after.cooldowns} if isinstance(after, Account) else {}
    return [one.key for one in theirs if one.until > now and kept.get(one.key, 0) < one.until]


def credential_fingerprint(account: Account) -> str:
    """What an account stands or falls with: its refresh token, or the access token where it has no other."""
    return fingerprint(account.token.refresh_token or account.token.access_token or "")


def credential_changed(before: Record, after: Record) -> bool:
    """Whether an account stands or falls with something else than before."""
    return before is not after and not (
        isinstance(before, Account)
        and isinstance(after, Account)
        and credential_fingerprint(before) == credential_fingerprint(after)
    )
