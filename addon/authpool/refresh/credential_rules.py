"""Who may present a refresh token, and why another one may not. Nothing here reads a store or writes to one."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authpool.accounts.account import Account, AccountKey, BrokenAccount, fingerprint
from authpool.config import PoolConfig
from authpool.pool.report import timestamp
from authpool.refresh.credential_holders import Holders, first_of
from authpool.store import Record
from authpool.store.trail_index import REMEMBERED, CredentialTrail

RESTORED = "restored_copy:"
"""So begins the reason of an account whose record holds a refresh token that it has exchanged since."""
MOVED_FROM = "moved_from"
"""Key in an account's file while it is being moved: where it comes from, and is still the account's own."""
_COPY = "it is a copy:"
_MOVING = "it is being moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOf:
    """Another account is the first one that holds this credential."""

    first: Account
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the record holds was exchanged `at` a time (Unix seconds), by the account itself or one that is gone."""

    at: int
    by: AccountKey


class CredentialRules:
    """Judges one account among others. `unwritten` tells what a refresher could not write yet."""

    def __init__(self, trail: CredentialTrail, unwritten: Callable[[AccountKey], Account | None]) -> None:
        self._trail = trail
        self._unwritten = unwritten
        self._replaced: dict[str, set[bytes]] = {}
        """Digests of the refresh tokens that this process saw replaced, by fingerprint: of many, two have the same."""

    def replaced(self, before: Account, after: Record | None) -> None:
        """An account was seen with another refresh token than before; what the trail says of it can be told apart."""
        token = before.token.refresh_token
        if token is None or (isinstance(after, Account) and after.token.refresh_token == token):
            return
        self._replaced.setdefault(fingerprint(token), set()).add(_digest(token))
        if len(self._replaced) > REMEMBERED:
            del self._replaced[next(iter(self._replaced))]

    def _is_another(self, refresh_token: str) -> bool:
        """Whether it is surely not what somebody else exchanged that has the same fingerprint."""
        digests = self._replaced.get(fingerprint(refresh_token))
        return digests is not None and _digest(refresh_token) not in digests

    def judge(self, account: Account, accounts: Holders, pools: Mapping[str, PoolConfig]) -> CopyOf | Spent | None:
        """Why `account` is to be held back, among all `accounts`; None when it may go on."""
        pool = pools.get(account.pool)
        moving = _moving(account, accounts)
        if moving is not None or pool is None:
            return moving
        refresh_token = account.token.refresh_token
        if pool.type != "refresh_token" or refresh_token is None:
            return None
        known = self._trail.known(fingerprint(refresh_token), account.key)
        if known is not None and known.account != account.key and self._is_another(refresh_token):
            known = None
        if known is not None and known.exchanged_at is not None:
            if known.account == account.key:
                held = self._unwritten(account.key) is not None  # then memory has the newest, and writes it yet
                return None if held else Spent(at=known.exchanged_at, by=known.account)
            holder = accounts.get(known.account)
            if holder is not None and holder.pool in pools:
                return CopyOf(first=holder, reason=_exchanged_by(holder, known.exchanged_at))
            return Spent(at=known.exchanged_at, by=known.account)
        if accounts.holders(account) == [account.key]:  # nearly always
            return None
        sharing = accounts.of_token(refresh_token)  # who is being moved is held back itself, and holds nobody back
        rivals = [one for one in sharing if concerned(one, pools) and _moving(one, accounts) is None]
        everyone = [account, *rivals]
        presenting = [one for one in everyone if one.presents]  # by now its token may be spent: nobody comes before it
        first = first_of(presenting or everyone, None if known is None else known.account)
        return None if first.key == account.key else CopyOf(first=first, reason=_same_as(first, account))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _moving(account: Account, accounts: Holders) -> CopyOf | None:
    """Whether a move of the account was cut off before it left its old address."""
    if MOVED_FROM not in account.extra:  # nearly always
        return None
    try:
        source = accounts.get(AccountKey.parse(str(account.extra[MOVED_FROM])))
    except ValueError:
        return None
    if source is None or source.key == account.key or source.created_at != account.created_at:
        return None  # it has left, or who has that address now is another one
    if source.extra.get(MOVED_FROM) == account.address:
        return None  # an earlier move came from there, and left its mark: else each would wait for the other
    if went_on(account, source):
        return None  # what is at the old address is left over, or was put back by hand
    return CopyOf(
        first=source,
        reason=f"{_MOVING} from {source.address}, and that was cut off; "
        f"go on with: authpool move {source.address} {account.pool}",
    )


def went_on(moved: Account, source: Account) -> bool:
    """Whether an account that was being moved presents its refresh token at its new address already, or did so."""
    return moved.presents or moved.generation > source.generation


def concerned(account: Account, pools: Mapping[str, PoolConfig]) -> bool:
    """Whether the account's pool presents refresh tokens."""
    pool = pools.get(account.pool)
    return pool is not None and pool.type == "refresh_token"


def as_held(account: Account, found: CopyOf | Spent, now: float) -> Record:
    """An account as it counts while it is held back: a copy is broken, what is spent is disabled."""
    if account.disabled:
        return account
    if isinstance(found, CopyOf):
        return BrokenAccount(pool=account.pool, name=account.name, reason=found.reason)
    return account.with_disabled(restored_reason(account, found), now)


def tells_of_a_copy(detail: str) -> bool:
    """Whether a refresh was not tried because another account has the credential."""
    return detail.startswith((_COPY, _MOVING))


def restored_reason(account: Account, found: Spent) -> str:
    """Why an account is held back that holds what was exchanged, and the ways out."""
    whose = "" if found.by == account.key else f", of {found.by}"
    return (
        f"{RESTORED} since {timestamp(found.at)} a newer refresh token has taken the place of the one in this "
        f"record, as the audit trail or an earlier record says{whose}: an old copy was put back, or the newer one was "
        "never written. To present a spent token may end the grant. Ways out: sign in again and "
        f"`authpool add {account.pool} SOURCE`, or `authpool enable --force {account.address}` "
        "if you know that it still works"
    )


def _exchanged_by(holder: Account, at: int) -> str:
    return (
        f"{_COPY} {holder.address} has exchanged this refresh token for a newer one, {timestamp(at)}; "
        "to present it again may end that grant. Sign in again for a credential of its own, or remove it"
    )


def _same_as(first: Account, account: Account) -> str:
    return (
        f"{_COPY} {first.address} holds the same credential, and a refresh by one of them spends the other's. "
        f"Remove one of them, or sign in again for a credential of its own: authpool add {account.pool} SOURCE"
    )
