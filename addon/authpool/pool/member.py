"""One account in a pool: its record, and what only this process knows of it."""

from enum import StrEnum

from authpool.accounts.account import Account, SealedAccount, fingerprint
from authpool.accounts.confirmation import BEING_CONFIRMED, LATEST_SECONDS
from authpool.accounts.standing import TOKEN_REFUSED
from authpool.pool.lane import Throttle
from authpool.pool.refused_token import Refusals
from authpool.store import Record

ADVISORY_SECONDS = 300.0
ADVISORY_SHARE = 0.2
"""An access token is refreshed in the background when less than this is left of its lifetime."""
MANDATORY_SECONDS = 30.0
"""So shortly before the end a request waits for the refresh rather than use what is left."""


class State(StrEnum):
    """The states of an account, in the words used everywhere. `disabled` is judged before `paused`.

    `refreshing` is for people: it is `ready` while a refresh is under way, and serves like it. `sealed` is who can't be
    looked into, for want of the key; nothing is wrong with it.
    """

    READY = "ready"
    REFRESHING = "refreshing"
    COOLING = "cooling"
    PAUSED = "paused"
    DISABLED = "disabled"
    BROKEN = "broken"
    SEALED = "sealed"


class Member:
    """One account in the pool, or (of the account alone) as a command finds it in the store."""

    __slots__ = (
        "advisory_seconds",
        "condemned",
        "cooling_reason",
        "cooling_until",
        "counted_as",
        "failures",
        "has_served",
        "key",
        "mandatory_seconds",
        "record",
        "refusals",
        "refused_token",
        "retry_at",
        "served",
        "throttle",
        "unspared_until",
        "waits_for_store",
        "written_until",
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
        self.waits_for_store = False
        """Whether the last of those failures was the store's, and nobody was asked."""
        self.has_served = False
        """Whether an upstream accepted a token of this credential."""
        self.refusals: Refusals | None = None
        """What upstreams refused it, once one has."""
        self.refused_token: str | None = None
        """An access token that an upstream refused, and that no other could be had for: it is not live."""
        self.unspared_until = 0.0
        """An operator took it back who knew of its quota: until then it is not spared again (Unix seconds)."""
        self.written_until = 0
        """The end of the cooldown that this process wrote into the record last: no news when it is read there."""
        self.advisory_seconds = 0.0
        self.mandatory_seconds = 0.0
        self.counted_as: State | None = None
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
            self.cooling_until = self.retry_at = 0.0
            self.failures = 0
            self.condemned = None
        if not isinstance(record, Account):
            return
        if record.disabled:
            self.condemned = None  # the store knows; from here on its word counts, also when it is taken back
        if isinstance(before, Account) and before.spared() and before.paused(now) and not record.proxy_disabled:
            self.unspared_until = float(before.proxy_disabled_until or 0)

    def inherit(self, former: "Member", *, static: bool) -> None:
        """Know what was known of the account before a reload, as far as it is about the same credential."""
        self.served, self.unspared_until = former.served, former.unspared_until
        self.written_until = former.written_until
        if not credential_changed(former.record, self.record):
            self.condemned, self.failures, self.retry_at = former.condemned, former.failures, former.retry_at
            self.waits_for_store = former.waits_for_store
        if not is_another(former.record, self.record, static=static):
            self.has_served, self.refusals, self.refused_token = (
                former.has_served,
                former.refusals,
                former.refused_token,
            )

    def forget_refusals(self) -> None:
        """The credential is another one: what was refused to the former says nothing about it."""
        self.has_served, self.refusals, self.refused_token = False, None, None

    def pardon(self, before: Record | None) -> None:
        """Somebody took its cooldown back: another credential, or one that was seen to serve."""
        if before is None or credential_changed(before, self.record):
            self.forget_refusals()
        elif self.refusals is not None:
            self.refusals.served()
        self.refused_token = None

    @property
    def is_refused(self) -> bool:
        """Whether an upstream refused the access token that the account has."""
        return self.refused_token is not None and access_token_of(self.record) == self.refused_token

    @property
    def on_probation(self) -> bool:
        """Whether upstreams refused its tokens, and none has been seen to take one since."""
        return self.throttle is not None and self.throttle.of_token

    def live(self, now: float, margin_seconds: float = 0.0) -> bool:
        """Whether its access token can be used, as far as anyone knows."""
        return not self.is_refused and self.account.token.live(now, margin_seconds)

    def serves(self, now: float) -> bool:
        """Whether it can serve a request now: with a live token, or with one that is there for the asking."""
        return self.state(now) is State.READY and (self.live(now) or not self.failures)

    def state(self, now: float) -> State:
        """Its state; what it is cooling for in one kind of request only does not count."""
        return self.state_of(self.standing(now), now)

    def state_of(self, standing: State, now: float) -> State:
        """Its state, where its standing is known."""
        if standing is State.READY and self.throttle is not None and self.throttle.blocks(now):
            return State.COOLING
        return standing

    def standing(self, now: float) -> State:
        """Its state but for what upstreams told it."""
        if (out := self._out(now)) is not None:
            return out
        waits = self.is_refused or self.waits_to_be_confirmed
        return State.COOLING if self.cooling_until > now or waits else State.READY

    @property
    def waits_to_be_confirmed(self) -> bool:
        """Whether the token endpoint said `invalid_grant` once, and is asked once more before that counts."""
        return isinstance(self.record, Account) and self.record.rejected_at() is not None

    def is_out(self, now: float) -> bool:
        """Whether it may not serve, however well an upstream takes its token."""
        return self._out(now) is not None or self.waits_to_be_confirmed

    def _out(self, now: float) -> State | None:
        record = self.record
        if not isinstance(record, Account):
            return State.SEALED if isinstance(record, SealedAccount) else State.BROKEN
        if record.disabled or (self.condemned is not None and self.condemned == credential_fingerprint(record)):
            return State.DISABLED
        return State.PAUSED if record.paused(now) else None

    def set_leads(self, now: float) -> None:
        """How long before its expiry the access token is to be refreshed, from the lifetime first seen of it."""
        record = self.record
        if isinstance(record, Account) and record.token.expires_at is not None:
            lifetime = max(0.0, record.token.expires_at - now)
            self.advisory_seconds = min(ADVISORY_SECONDS, lifetime * ADVISORY_SHARE)
            self.mandatory_seconds = min(MANDATORY_SECONDS, self.advisory_seconds / 2)

    def shift(self, seconds: float) -> None:
        """The wall clock was put forward or back."""
        self.retry_at += seconds if self.retry_at else 0
        self.cooling_until += seconds if self.cooling_until else 0
        if self.refusals is not None:
            self.refusals.shift(seconds)

    def turns_at(self, now: float) -> float | None:
        """When (Unix seconds) its standing changes by itself; None when it does not."""
        match self.standing(now):
            case State.COOLING:
                if self.waits_to_be_confirmed:
                    return self.cooling(now)[0]
                return self.cooling_until if self.cooling_until > now else None
            case State.PAUSED if self.account.spared() and self.account.proxy_disabled_until is not None:
                return float(self.account.proxy_disabled_until)
        return None

    def cooling(self, now: float) -> tuple[float, str]:
        """Until when (Unix seconds) and why a cooling account is cooling."""
        if isinstance(self.record, Account) and (rejected_at := self.record.rejected_at()) is not None:
            return max(rejected_at + LATEST_SECONDS, self.cooling_until, self.retry_at), BEING_CONFIRMED
        if self.throttle is not None and self.throttle.blocks(now) and self.throttle.until >= self.cooling_until:
            return self.throttle.until, self.throttle.reason
        if self.cooling_until <= now and self.is_refused:
            return max(now, self.retry_at), f"{TOKEN_REFUSED}, and no new one can be had"
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


def access_token_of(record: Record) -> str | None:
    """The access token of an account; None where there is none, or where its record can't be read."""
    return record.token.access_token if isinstance(record, Account) else None


def is_another(before: Record, after: Record, *, static: bool) -> bool:
    """Whether a credential is another one, rather than refreshed: a refresh counts the generation on."""
    return (
        credential_changed(before, after)
        and isinstance(before, Account)
        and isinstance(after, Account)
        and (static or after.generation <= before.generation)
    )


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
