"""Cooldowns that stand in an account's record: taken over when they come, given up when somebody takes them out."""

from authpool.accounts.account import Account
from authpool.pool.lanes import ALL, Lanes
from authpool.pool.member import Member, lifted_lanes, stored_throttle
from authpool.store import Record


def follow_cooldowns(member: Member, before: Record | None, lanes: Lanes, now: float) -> None:
    """A member has another record than `before`: let its lanes stand as that says."""
    ours = member.record.cooldowns if isinstance(member.record, Account) else ()
    theirs = before.cooldowns if isinstance(before, Account) else ()
    for lane in lifted_lanes(before, member.record, now):
        throttle = lanes.throttle(member.key, lane)
        if throttle is not None and throttle.of_token:  # somebody saw it served, or added it again
            member.pardon(before)
        lanes.lift(member.key, lane, now)
    tried = any(one.of_token for one in theirs) and not any(one.of_token for one in ours)
    if tried and member.on_probation and member.throttle is not None and member.throttle.until <= now:
        member.pardon(before)  # likewise, after its time was over
        lanes.lift(member.key, ALL, now)
    for cooldown in ours:
        throttle = stored_throttle(member.record, cooldown.key)
        news = cooldown not in theirs and (cooldown.key != ALL or cooldown.until != member.written_until)
        if throttle is not None and throttle.until > now and news:
            lanes.restore(member.key, throttle, cooldown.key, now)
