"""Accounts as they are shown: how each stands, why, and since when."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from authpool.accounts.account import Account
from authpool.accounts.standing import TOKEN_REFUSED
from authpool.gateway.service import Service
from authpool.pool.pool import Member, State
from authpool.refresh.client_watch import WAY_OUT
from authpool.refresh.refresher import Refresher


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """One account as it is shown. Times are Unix seconds, None where unknown or meaningless.

    `since`: disabled or paused since; `until`: cooling, or spared for its quota, until.
    `served` is None where no gateway counts.
    """

    pool: str
    name: str
    state: State
    reason: str
    since: int | None
    until: int | None
    expires_at: int | None
    served: int | None


def live_rows(service: Service) -> list[AccountRow]:
    """The accounts that a running gateway serves, by pool and name."""
    now = service.clock.time()
    members = (member for pool in service.snapshot.pools.values() for member in pool)
    rows = [account_row(member, service.refresher, now, live=True) for member in members]
    left = (Member(record) for record in service.unconfigured.records.values())
    return in_order([*rows, *(unconfigured_row(member, now) for member in left)])


def in_order(rows: Iterable[AccountRow]) -> list[AccountRow]:
    """By pool and name."""
    return sorted(rows, key=lambda row: (row.pool, row.name.casefold()))


def account_row(member: Member, refresher: Refresher, now: float, *, live: bool) -> AccountRow:
    """One account at `now` (Unix seconds); `live`: this process serves it, and counts."""
    record = member.record
    state = member.state(now)
    if state is State.READY and refresher.refreshing(member.key):
        state = State.REFRESHING
    fault = refresher.fault(record.pool)
    reason, since = _standing(member, state, fault, now)
    if state is State.READY and member.on_probation:  # serving nobody but the request that tries it
        state, reason = State.COOLING, reason or f"{TOKEN_REFUSED}; the next request tries it again"
    account = record if isinstance(record, Account) else None
    return AccountRow(
        pool=record.pool,
        name=record.name,
        state=state,
        reason=reason,
        since=since,
        until=_until(member, state, now),
        expires_at=account.token.expires_at if account is not None else None,
        served=member.served if live else None,
    )


def unconfigured_row(member: Member, now: float) -> AccountRow:
    """As the account's file says; what its pool would be like nobody knows."""
    record, state = member.record, member.state(now)
    reason, since = _standing(member, state, None, now)
    left = f"the pool {record.pool} is not configured"
    return AccountRow(
        pool=record.pool,
        name=record.name,
        state=state,
        reason=f"{left}; {reason}" if reason else left,
        since=since,
        until=_until(member, state, now),
        expires_at=record.token.expires_at if isinstance(record, Account) else None,
        served=None,
    )


def _until(member: Member, state: State, now: float) -> int | None:
    """When (Unix seconds) an account comes back by itself."""
    if state is State.COOLING:
        until = math.ceil(member.cooling(now)[0])
        return until if until > now else None
    return member.account.proxy_disabled_until if state is State.PAUSED else None


def _standing(member: Member, state: State, fault: str | None, now: float) -> tuple[str, int | None]:
    """Why an account is in its state, and since when, as far as anybody knows; `fault` is of its pool's client."""
    record = member.record
    if not isinstance(record, Account):
        return record.reason, None
    match state:
        case State.DISABLED:
            return record.disabled_reason or "", record.disabled_at
        case State.PAUSED:
            return record.proxy_disabled_reason or "", record.proxy_disabled_at
        case _ if fault is not None:
            return f"{fault}; {WAY_OUT}", None
        case State.COOLING:
            return member.cooling(now)[1], None
        case _:
            return "", None
