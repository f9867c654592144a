"""The accounts of a pool whose tokens an upstream refuses: who they are, and when one is worth trying all the same."""

from collections.abc import Callable, Collection, Mapping
from itertools import islice

from authpool.accounts.account import Account, AccountKey
from authpool.pool.lanes import ALL, Lanes
from authpool.pool.member import Member, access_token_of
from authpool.pool.refused_token import SEVERAL_PATHS, Refusals, RefusedToken, ServedTargets
from authpool.rotation.rotation import RotationRequest

LOOKED_AT = 100
"""Of so many suspects one is looked for, when nobody else can serve."""


class Suspects:
    """What a pool knows of refused tokens; `changed` is told of each member whose state may be another now."""

    def __init__(self, members: Mapping[AccountKey, Member], lanes: Lanes, changed: Callable[[Member], None]) -> None:
        self._members = members
        self._lanes = lanes
        self._changed = changed
        self._targets = ServedTargets()
        self._refused: set[AccountKey] = set()
        """Those with a refused token and no newer one; some may have one again."""

    def keys(self) -> set[AccountKey]:
        """Who cools because of its token, or was to cool and waits for its probe."""
        throttles = self._lanes.everyone.throttles
        refused = {key for key in self._refused if key in self._members and self._members[key].is_refused}
        return {key for key, throttle in throttles.items() if throttle.of_token} | refused

    def choose(self, request: RotationRequest, tried: Collection[AccountKey], lane: str, now: float) -> Member | None:
        """Somebody for a request that nobody else can serve: an account need not be dead that one path refuses."""
        for key in islice(self.keys() - set(tried), LOOKED_AT):
            member = self._members.get(key)
            if member is not None and self._may_try(member, request, lane, now):
                return member
        return None

    def _may_try(self, member: Member, request: RotationRequest, lane: str, now: float) -> bool:
        record = member.record
        if not isinstance(record, Account) or member.is_out(now) or not record.token.live(now):
            return False
        of_kind = self._lanes.throttle(member.key, lane) if lane != ALL else None
        if of_kind is not None and of_kind.blocks(now):
            return False
        throttle = self._lanes.throttle(member.key)
        if throttle is None or not throttle.of_token or not throttle.blocks(now):
            return throttle is None or throttle.of_token
        paths = member.refusals.paths if member.refusals is not None else ()
        return request.path.partition("?")[0] not in paths and (len(paths) < SEVERAL_PATHS or request in self._targets)

    def served(self, member: Member, request: RotationRequest, access_token: str, now: float) -> bool:
        """An upstream served the account; whether it was held to be refused until now."""
        member.has_served = True
        self._targets.add(request)
        if member.refusals is not None:
            member.refusals.served()
        if member.refused_token is None or member.refused_token != access_token:
            return False
        self.clear(member, now)
        return True

    def accepted(self, member: Member, access_token: str, now: float) -> bool:
        """End the cooldown of an account whose present token was accepted; whether there was one."""
        throttle = self._lanes.throttle(member.key)
        if throttle is None or not throttle.of_token or access_token_of(member.record) != access_token:
            return False
        everyone = self._lanes.everyone
        alone = all(key in everyone.throttles for key in everyone.serving())
        self._lanes.lift(member.key, ALL, now)
        self._changed(member)
        for key in everyone.probe_soon(now) if alone else ():  # it was the upstream, or so it seems
            self._changed(self._members[key])
        return True

    def refused(self, member: Member, refused: RefusedToken, now: float, *, sure: int) -> bool:
        """An upstream refused the account's token; whether that speaks against the account."""
        refusals = self.refusals(member)
        refusals.refused(refused, now)
        throttle = self._lanes.throttle(member.key)
        if throttle is not None and throttle.of_token:  # it is known for that already
            return True
        known = refused.request in self._targets
        return refusals.speak_against_account(has_served=member.has_served, known=known, sure=sure)

    def refusals(self, member: Member) -> Refusals:
        if member.refusals is None:
            member.refusals = Refusals()
        return member.refusals

    def out_of_tokens(self, member: Member, access_token: str) -> None:
        """No newer token could be had: this one is not live, whatever its `expires_at` says."""
        member.refused_token = access_token
        self._refused.add(member.key)
        self._changed(member)

    def clear(self, member: Member, now: float) -> None:
        """The account has a token again that nobody refused."""
        if member.refused_token is not None:
            member.refused_token, member.cooling_until = None, 0.0
        self._refused.discard(member.key)
        throttle = self._lanes.throttle(member.key)
        if throttle is not None and throttle.of_token:
            self._lanes.lift(member.key, ALL, now)
        self._changed(member)

    def inherit(self, former: "Suspects") -> None:
        self._targets = former._targets  # noqa: SLF001
        held = (self._members.get(key) for key in former._refused)  # noqa: SLF001
        self._refused = {member.key for member in held if member is not None and member.is_refused}
