"""The pool: which accounts there are, what state each is in, and which one serves the next request.

Everything here runs on one thread and never waits, so each method is one step that nothing comes between.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, Mapping
from weakref import ref

from authpool.accounts.account import Account, AccountKey
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.pool.lane import Throttle
from authpool.pool.lanes import ALL, Lanes
from authpool.pool.member import (
    Member,
    State,
    access_token_of,
    credential_changed,
    credential_fingerprint,
    is_another,
    lifted_lanes,
)
from authpool.pool.path_pauses import PathPauses
from authpool.pool.stored_cooldowns import follow_cooldowns
from authpool.pool.suspects import Suspects
from authpool.pool.turns import Turns
from authpool.rotation.quota import Quota
from authpool.rotation.rotation import Rotation, RotationRequest
from authpool.store import Record

__all__ = ["Member", "Pool", "State", "credential_fingerprint"]


class Pool:
    """The accounts of one pool; `rotation` makes one that then always holds exactly those that can serve."""

    def __init__(
        self,
        config: PoolConfig,
        rotation: Callable[[], Rotation],
        clock: Clock,
        records: Iterable[Record] = (),
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self._clock = clock
        self._members: dict[AccountKey, Member] = {}
        self._counts: Counter[State] = Counter()
        self._lanes = Lanes(rotation, rng or random.Random())  # noqa: S311 - spreads cooldowns, guards nothing
        self.suspects = Suspects(self._members, self._lanes, _place_in(self))
        self.path_pauses = PathPauses(self._members, self._lanes, _place_in(self))
        self._unrefreshed: set[AccountKey] = set()
        self._turns = Turns(self._members)
        for record in records:
            self.put(record)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def items(self) -> ItemsView[AccountKey, Member]:
        return self._members.items()

    def get(self, key: AccountKey) -> Member | None:
        return self._members.get(key)

    @property
    def needs_body(self) -> bool:
        """Whether the account is chosen by the request's body."""
        return self._lanes.needs_body

    # --- choosing ---------------------------------------------------------------------------------------------

    def choose(self, request: RotationRequest, tried: Collection[AccountKey] = (), lane: str = ALL) -> Member | None:
        """Pick the account for a request, other than those it was tried on; None when no account can serve."""
        self._thaw()
        key = self._lanes.choose(request, tried, lane)
        return None if key is None else self._members[key]

    def began(self, key: AccountKey, holder: object, lane: str = ALL) -> None:
        """The request of `holder` has the account; `ended` follows."""
        if key in self._members and self._lanes.began(key, holder, lane, self._clock.time()):
            self._place(self._members[key])

    def ended(self, key: AccountKey, holder: object, lane: str = ALL) -> None:
        """The request of `holder` is over, or went on to another account."""
        if key in self._members and self._lanes.ended(key, holder, lane, self._clock.time()):
            self._place(self._members[key])

    def observe(self, key: AccountKey, quota: Quota) -> None:
        """An upstream told what is left of an account's quota."""
        if key in self._members:
            self._lanes.observe(key, quota)

    # --- accounts come, change and go -------------------------------------------------------------------------

    def put(self, record: Record) -> Member:
        """Take in an account, or what became of it. What only this process knows of it is kept."""
        member = self._members.get(record.key)
        before: Record | None = None
        if member is None:
            member = self._members[record.key] = Member(record)
            member.set_leads(self._clock.time())
        else:
            before = member.record
            member.become(record, self._clock.time())
            if access_token_of(before) != access_token_of(record):
                member.set_leads(self._clock.time())
        self._turns.follow(member, self._clock.time())
        follow_cooldowns(member, before, self._lanes, self._clock.time())
        self._follow_token(member, before or record)
        self._place(member)
        return member

    def _follow_token(self, member: Member, before: Record) -> None:
        """Forget that a token was refused, once the account has another one."""
        if member.refused_token is not None and not member.is_refused:
            self.suspects.clear(member, self._clock.time())
        if is_another(before, member.record, static=self.config.type == "static"):
            member.forget_refusals()
            self.suspects.clear(member, self._clock.time())

    def remove(self, key: AccountKey) -> None:
        member = self._members.pop(key, None)
        if member is not None:
            self._lanes.forget(key, self._clock.time())
            self._count(member, None)

    def inherit(self, former: "Pool") -> None:
        """Carry over what only this process knows: counts, cooldowns, verdicts not yet written."""
        now = self._clock.time()
        for key, member in self._members.items():  # for most of 10,000 there is next to nothing to do
            before = former._members.get(key)  # noqa: SLF001
            if before is None:
                continue
            member.inherit(before, static=self.config.type == "static")
            if before.cooling_until and not credential_changed(before.record, member.record):
                self.cool(key, before.cooling_until, before.cooling_reason)
            if before.record is not member.record:
                for lane in lifted_lanes(before.record, member.record, now):
                    former._lanes.lift(key, lane, now)  # noqa: SLF001
            if member.condemned is not None or member.is_refused:
                self._place(member)
        kinds = former.config.cooldown_by == self.config.cooldown_by
        for key in self._lanes.inherit(former._lanes, self._members.keys(), now, kinds=kinds):  # noqa: SLF001
            self._place(self._members[key])
        self.suspects.inherit(former.suspects)

    def condemn(self, account: Account, *, stored: bool) -> None:
        """The credential is dead: out of the pool with it, whether or not the store could write that down."""
        member = self.put(account)
        member.condemned = None if stored else credential_fingerprint(account)
        self._place(member)

    # --- cooldowns --------------------------------------------------------------------------------------------

    def cool(self, key: AccountKey, until: float, reason: str) -> None:
        """A refresh failed, and no live token is left: leave the account out until then (Unix seconds)."""
        member = self._members.get(key)
        if member is None or until <= member.cooling_until:
            return
        member.cooling_until = until
        member.cooling_reason = reason
        self._unrefreshed.add(key)
        self._turns.note(until, key)
        self._place(member)

    def warm(self, key: AccountKey) -> None:
        """The account has a live token again."""
        member = self._members.get(key)
        if member is not None and member.cooling_until:
            member.cooling_until = 0.0
            self._place(member)

    def take_spared(self) -> list[Member]:
        """Those that were spared for their quota and are so no more; each is told once."""
        self._thaw()
        return self._turns.take_spared(self._clock.time())

    def unrefreshed(self) -> Iterator[Member]:
        """Those that are cooling because a refresh failed."""
        now = self._clock.time()
        members = {key: self._members.get(key) for key in self._unrefreshed}
        found = [m for m in members.values() if m is not None and m.standing(now) is State.COOLING]
        self._unrefreshed = {member.key for member in found}
        return iter(found)

    def throttle(
        self,
        key: AccountKey,
        until: float | None,
        reason: str,
        *,
        lane: str = ALL,
        sent_at: float,
        latest: float | None = None,
        path: str = "",
    ) -> Throttle | None:
        """An upstream told the account to pause for requests of a lane; see `Lane.cool`. None: there is no account."""
        member = self._members.get(key)
        if member is None:
            return None
        now = self._clock.time()
        throttle = self._lanes.cool(key, until, reason, lane=lane, sent_at=sent_at, now=now, latest=latest, path=path)
        if path:
            self.path_pauses.told(member, lane, path, now)
        self._place(member)
        return throttle

    def throttled(self, key: AccountKey, lane: str = ALL) -> tuple[float, float]:
        """Since when and until when (Unix seconds) an account's last cooldown of a lane; zeros when it has none."""
        throttle = self._lanes.throttle(key, lane)
        return (0.0, 0.0) if throttle is None else (throttle.since, throttle.until)

    def proved(self, key: AccountKey, *, lane: str = ALL, sent_at: float) -> bool:
        """An upstream served the account; whether that ended a cooldown."""
        ended = key in self._members and self._lanes.proved(key, lane=lane, sent_at=sent_at, now=self._clock.time())
        if ended:
            self._place(self._members[key])
        return ended

    def shift(self, seconds: float) -> None:
        """The wall clock was put forward or back: a wait of seconds must not become an hour, nor end at once."""
        self._lanes.shift(seconds, self._clock.time())
        for member in self._members.values():
            member.shift(seconds)
            if member.cooling_until:
                self._turns.note(member.cooling_until, member.key)
            self._place(member)

    # --- how it stands ----------------------------------------------------------------------------------------

    def counts(self) -> Mapping[State, int]:
        """How many accounts are in which state now."""
        self._thaw()
        return +self._counts

    def serves(self) -> bool:
        """Whether anybody can serve a request now; see `Member.serves`."""
        return bool(self.counts()[State.READY]) and any(member.serves(self._clock.time()) for member in self)

    @property
    def cooling(self) -> bool:
        """Whether some account may be cooling, for whatever kind of requests."""
        return bool(self._counts[State.COOLING] or self._lanes.kinds)

    def next_return(self, lane: str = ALL) -> float | None:
        """When the next account may come back by itself (Unix seconds); None when no time tells."""
        self._thaw()
        ends = (self._lanes.next_end(lane), self._turns.next(self._clock.time()))
        return min((end for end in ends if end is not None), default=None)

    def _thaw(self) -> None:
        """Let what is over be over."""
        now = self._clock.time()
        heap = self._turns.heap
        if heap and heap[0][0] <= now:  # asked before each choice
            for member in self._turns.take(now):
                self._place(member)
        for key in self._lanes.thaw(now):
            if key in self._members:
                self._place(self._members[key])

    def _place(self, member: Member) -> None:
        """Make every lane's rotation hold the member exactly while it can serve there, and count it anew."""
        now = self._clock.time()
        standing = member.standing(now)
        self._lanes.place(member.key, now, able=standing is State.READY)
        member.throttle = self._lanes.throttle(member.key)
        self._count(member, member.state_of(standing, now))

    def _count(self, member: Member, state: State | None) -> None:
        if member.counted_as is not state:
            if member.counted_as is not None:
                self._counts[member.counted_as] -= 1
            if state is not None:
                self._counts[state] += 1
            member.counted_as = state


def _place_in(pool: Pool) -> Callable[[Member], None]:
    """Place a member of a pool that is not kept by this: one that is replaced goes at once, uncollected."""
    reference = ref(pool)

    def place(member: Member) -> None:
        held = reference()
        if held is not None:
            held._place(member)  # noqa: SLF001

    return place
