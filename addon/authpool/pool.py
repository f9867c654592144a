"""The pool: which accounts there are, what state each is in, and which one serves the next request.

Everything here runs on one thread and never waits, so each method is one step that nothing comes between.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum

from authpool.account import Account, AccountKey, fingerprint
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.rotation import Rotation, RotationRequest
from authpool.store import Record

ADVISORY_SECONDS = 300.0
ADVISORY_SHARE = 0.2
"""An access token is refreshed in the background when less than this is left of its lifetime."""
MANDATORY_SECONDS = 30.0
"""So shortly before the end a request waits for the refresh rather than use what is left."""


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
    """One account in the pool: its record, and what only this process knows of it."""

    __slots__ = (
        "advisory_seconds",
        "condemned",
        "cooling_reason",
        "cooling_until",
        "failures",
        "in_rotation",
        "mandatory_seconds",
        "record",
        "retry_at",
        "served",
        "uncured_until",
    )

    def __init__(self, record: Record) -> None:
        self.record = record
        self.served = 0
        self.cooling_until = 0.0
        self.cooling_reason = ""
        self.condemned: str | None = None
        """Fingerprint of a credential found dead, while the store has not taken that verdict."""
        self.failures = 0
        self.retry_at = 0.0
        """After refreshes that failed: not to be tried again before (Unix seconds)."""
        self.uncured_until = 0.0
        """An upstream refused even a fresh token: until then its 401 is not worth a refresh (Unix seconds)."""
        self.advisory_seconds = 0.0
        self.mandatory_seconds = 0.0
        self.in_rotation = False

    @property
    def key(self) -> AccountKey:
        return self.record.key

    @property
    def account(self) -> Account:
        """The account; only to be asked of a member that is not broken."""
        if not isinstance(self.record, Account):
            raise TypeError(f"{self.record.address} is broken")
        return self.record

    def state(self, now: float) -> State:
        record = self.record
        if not isinstance(record, Account):
            return State.BROKEN
        if record.disabled or (self.condemned is not None and self.condemned == credential_fingerprint(record)):
            return State.DISABLED
        if record.proxy_disabled:
            return State.PAUSED
        return State.COOLING if self.cooling_until > now else State.READY


class Pool:
    """The accounts of one pool, and a rotation that always holds exactly those that can serve."""

    def __init__(self, config: PoolConfig, rotation: Rotation, clock: Clock, records: Iterable[Record] = ()) -> None:
        self.config = config
        self._rotation = rotation
        self._clock = clock
        self._members: dict[AccountKey, Member] = {}
        self._thawing: list[tuple[float, AccountKey]] = []
        for record in records:
            self.put(record)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, key: AccountKey) -> Member | None:
        return self._members.get(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey] = ()) -> Member | None:
        """Pick the account for a request, other than those it was tried on; None when no account can serve."""
        if self._thawing:
            self._thaw()
        key = self._rotation.choose(request, tried)
        return None if key is None else self._members[key]

    def put(self, record: Record) -> Member:
        """Take in an account, or what became of it. What only this process knows of it is kept."""
        member = self._members.get(record.key)
        if member is None:
            member = self._members[record.key] = Member(record)
            self._set_leads(member)
        else:
            before, member.record = member.record, record
            if _credential_changed(before, record):
                member.cooling_until = member.retry_at = member.uncured_until = 0.0
                member.failures = 0
                member.condemned = None
            if _access_token(before) != _access_token(record):
                self._set_leads(member)
        if isinstance(record, Account) and record.disabled:
            member.condemned = None  # the store knows; from here on its word counts, also when it is taken back
        self._settle(member)
        return member

    def remove(self, key: AccountKey) -> None:
        member = self._members.pop(key, None)
        if member is not None and member.in_rotation:
            self._rotation.remove(key)

    def inherit(self, former: "Pool") -> None:
        """Carry over what only this process knows: counts, cooldowns, verdicts not yet written."""
        for member in self._members.values():
            before = former.get(member.key)
            if before is None:
                continue
            member.served = before.served
            if not _credential_changed(before.record, member.record):
                member.condemned = before.condemned
                member.failures, member.retry_at = before.failures, before.retry_at
                member.uncured_until = before.uncured_until
                if before.cooling_until:
                    self.cool(member.key, before.cooling_until, before.cooling_reason)
            self._settle(member)

    def cool(self, key: AccountKey, until: float, reason: str) -> None:
        """Leave an account out until a time (Unix seconds); an earlier end of a cooldown changes nothing."""
        member = self._members.get(key)
        if member is None or until <= member.cooling_until:
            return
        member.cooling_until = until
        member.cooling_reason = reason
        heapq.heappush(self._thawing, (until, key))
        self._settle(member)

    def warm(self, key: AccountKey) -> None:
        """End a cooldown: the account has just been seen to work."""
        member = self._members.get(key)
        if member is not None and member.cooling_until:
            member.cooling_until = 0.0
            self._settle(member)

    def condemn(self, account: Account, *, stored: bool) -> None:
        """The credential is dead: out of the pool with it, whether or not the store could write that down."""
        member = self.put(account)
        member.condemned = None if stored else credential_fingerprint(account)
        self._settle(member)

    def counts(self) -> Mapping[State, int]:
        """How many accounts are in which state now."""
        now = self._clock.time()
        return Counter(member.state(now) for member in self._members.values())

    def earliest_thaw(self) -> float | None:
        """When the next cooldown ends (Unix seconds); None when no account is cooling."""
        now = self._clock.time()
        ends = [m.cooling_until for m in self._members.values() if m.state(now) is State.COOLING]
        return min(ends, default=None)

    def _thaw(self) -> None:
        now = self._clock.time()
        while self._thawing and self._thawing[0][0] <= now:
            _, key = heapq.heappop(self._thawing)
            member = self._members.get(key)
            if member is not None:
                self._settle(member)

    def _set_leads(self, member: Member) -> None:
        """How long before its expiry the access token is to be refreshed, from the lifetime first seen of it."""
        record = member.record
        if isinstance(record, Account) and record.token.expires_at is not None:
            lifetime = max(0.0, record.token.expires_at - self._clock.time())
            member.advisory_seconds = min(ADVISORY_SECONDS, lifetime * ADVISORY_SHARE)
            member.mandatory_seconds = min(MANDATORY_SECONDS, member.advisory_seconds / 2)

    def _settle(self, member: Member) -> None:
        """Make the rotation hold the member exactly while it can serve."""
        serving = member.state(self._clock.time()) is State.READY
        if serving and not member.in_rotation:
            member.in_rotation = True
            self._rotation.add(member.key)
        elif not serving and member.in_rotation:
            member.in_rotation = False
            self._rotation.remove(member.key)


def credential_fingerprint(account: Account) -> str:
    """What an account stands or falls with: its refresh token, or the access token where it has no other."""
    return fingerprint(account.token.refresh_token or account.token.access_token or "")


def _access_token(record: Record) -> str | None:
    return record.token.access_token if isinstance(record, Account) else None


def _credential_changed(before: Record, after: Record) -> bool:
    return not (
        isinstance(before, Account)
        and isinstance(after, Account)
        and credential_fingerprint(before) == credential_fingerprint(after)
    )
