"""What the refresh protocol writes: the intent, the new pair, the verdict; and what it does when the store refuses."""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from authpool.accounts.account import Account, AccountKey, PendingRefresh, fingerprint
from authpool.accounts.confirmation import confirm_from
from authpool.accounts.events import AccountEvent, Notify
from authpool.clock import Clock
from authpool.errors import BrokenAccountError, HoldLostError, StoreError, told
from authpool.oauth.verdict import Granted, PartlyGranted
from authpool.refresh.conditional_change import SupersededError, if_still
from authpool.refresh.granted_tokens import GrantedTokens
from authpool.refresh.held_account import HeldAccount
from authpool.refresh.outcome import Dead, Outcome, Rejected
from authpool.refresh.pending_writes import PendingWrites
from authpool.refresh.replaced_tokens import ReplacedTokens
from authpool.store import Hold

logger = logging.getLogger(__name__)

ROTATION_LOST = "rotation_lost:"
"""So begins the reason of an account whose new refresh token never reached us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The intent as it is written; `account` is the record with it."""

    account: Account
    before: PendingRefresh | None = None
    """What stood there before: a rejection that is to be confirmed, or an intent that was left over."""
    cut_off: bool = False
    """An earlier POST of the same token may have had no answer: the token may be spent."""
    confirming: bool = False
    """The same client's rejection of this token is on record: this is the second time."""


class Ledger:
    """Writes for one refresher, through the hold on the account: nothing but a granted token once that is lost."""

    def __init__(
        self,
        late: PendingWrites,
        replaced_tokens: ReplacedTokens,
        clock: Clock,
        notify: Notify,
        is_spent: Callable[[Account], Awaitable[bool]] | None = None,
    ) -> None:
        """`is_spent` tells what a refresher can't know by itself: that the account exchanged what its record holds."""
        self._granted = GrantedTokens(late, replaced_tokens, notify, is_spent)
        self._pending_writes = late
        self._replaced_tokens = replaced_tokens
        self._intents: dict[AccountKey, str] = {}
        self._lost: dict[AccountKey, str] = {}
        """Which refresh token of an account may have been spent, should an editor take the intent out of the file."""
        self._clock = clock
        self._notify = notify

    async def read(self, hold: Hold) -> Account:
        """Read an account; where an editor brought a spent refresh token back, put its successor there first.

        Raises StoreError.
        """
        account = await hold.read()
        self._note_lost(account)
        heal = self._replaced_tokens.heal(account)
        if heal is None:
            self._replaced_tokens.seen(account)
            return account
        stored = await hold.update(if_still(account, heal))
        logger.warning("The record of %s held a spent refresh token again; its successor is put back", account.address)
        return stored or account

    async def intend(self, hold: Hold, account: Account, client: str) -> "Intent":
        """Record durably that the refresh token is about to be presented, by `client` (`GrantRequest.client`)."""
        refresh_token = account.token.refresh_token
        if refresh_token is None:
            return Intent(account=account)
        spent = fingerprint(refresh_token)
        before = account.pending()
        unanswered = before is not None and (before.rejected_at is None or before.unanswered)
        cut_off = unanswered or spent in {self._intents.get(account.key), self._lost.get(account.key)}
        confirming = before is not None and before.rejected_at is not None and _is_of(before, client)
        self._intents[account.key] = spent  # an editor may take it out of the file yet
        if unanswered and account.presents:
            return Intent(account=account, before=before, cut_off=True, confirming=confirming)
        mark = self._mark_of(account, before, spent)
        try:
            stored = await hold.update(if_still(account, lambda current: replace(current, pending_refresh=mark)))
        except BaseException:
            if not cut_off:
                self._intents.pop(account.key, None)
            raise
        return Intent(account=stored or account, before=before, cut_off=cut_off, confirming=confirming)

    def _mark_of(self, account: Account, before: PendingRefresh | None, spent: str) -> PendingRefresh:
        now = int(self._clock.time())
        if before is None:
            return PendingRefresh(fingerprint=spent, started_at=now, account=account.address)
        if before.rejected_at is None:  # the token may have been spent from the older time on
            return replace(before, account=account.address)
        started_at = before.started_at if before.unanswered else now
        return replace(before, started_at=started_at, account=account.address, unanswered=True)

    async def still_intended(self, hold: Hold, intended: Account) -> bool:
        """Whether the intent, as it was written in `intended`, is on record before the token is presented again.

        Where an editor took it out of the record it is put back. Raises SupersededError.
        """
        mark = intended.pending_refresh
        if mark is None:  # nothing that could be spent
            return True

        def restore(current: Account) -> Account:
            return current if current.pending_refresh == mark else replace(current, pending_refresh=mark)

        try:
            await hold.update(if_still(intended, restore))
        except StoreError as error:
            logger.warning("%s is not asked for again: its intent can't be written: %s", intended.address, error)
            return False
        return True

    async def withdraw(self, hold: Hold, account: Account, before: PendingRefresh | None = None) -> None:
        """The answer came and spent nothing: what stood `before` the intent stands again."""
        self._intents.pop(account.key, None)
        try:
            await self._mark(hold, account, before)
        except StoreError as error:
            logger.warning("The refresh intent of %s stays: %s", account.address, error)

    async def reject(self, hold: Hold, account: Account, client: str, *, lost: bool) -> Rejected:
        """Note that the refresh token was rejected, for the first time: the account waits until that is confirmed.

        `lost`: an answer to it had never arrived. Raises SupersededError.
        """
        now = self._clock.time()
        spent = fingerprint(account.token.refresh_token or "")
        mark = replace(
            account.pending() or PendingRefresh(fingerprint=spent, started_at=int(now)),
            rejected_at=math.ceil(now),
            client=fingerprint(client),
            unanswered=lost,
        )
        if not lost:
            self._intents.pop(account.key, None)
        waiting, stored = replace(account, pending_refresh=mark), True
        try:
            waiting = await self._mark(hold, account, mark) or waiting
        except (SupersededError, BrokenAccountError, HoldLostError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the account waits all the same
            logger.error("That %s waits to be confirmed can't be written: %s", account.address, told(error))
            stored = False
        logger.info(
            "Account %s: invalid_grant; the token endpoint is asked once more before it counts", account.address
        )
        return Rejected(account=waiting, confirm_at=confirm_from(math.ceil(now), now), stored=stored)

    async def spare(self, hold: Hold, account: Account, *, lost: bool) -> None:
        """The rejection says nothing of the account. Where an answer never arrived (`lost`), that stays on record."""
        pending = account.pending()
        left = None
        if lost and pending is not None:
            left = replace(pending, rejected_at=None, client=None, unanswered=False)
        else:
            self._intents.pop(account.key, None)
        try:
            await self._mark(hold, account, left)
        except StoreError as error:
            logger.warning("The refresh intent of %s stays: %s", account.address, error)

    async def _mark(self, hold: Hold, account: Account, pending: PendingRefresh | None) -> Account | None:
        return await hold.update(
            if_still(
                account,
                lambda now: now if now.pending_refresh == pending else replace(now, pending_refresh=pending),
            ),
        )

    async def keep(
        self, held: HeldAccount, account: Account, granted: Granted | PartlyGranted, asked_at: float
    ) -> Outcome:
        """Write what was granted, and only then let it be used; see `GrantedTokens`. Raises SupersededError."""
        self._intents.pop(account.key, None)
        return await self._granted.keep(held, account, granted, asked_at)

    async def condemn(self, held: HeldAccount, account: Account, reason: str, *, lost: bool) -> Outcome:
        """Write that the grant is dead; `lost` when an answer to this refresh token had never arrived."""
        now = self._clock.time()
        if lost:
            reason = f"{ROTATION_LOST} an answer of the token endpoint never reached us, then {reason}"
        change = if_still(account, lambda current: current.with_disabled(reason, now))
        written = True
        try:
            stored = await held.hold.update(change)
        except (SupersededError, BrokenAccountError, HoldLostError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the verdict stands
            logger.error(
                "Disabling %s can't be written: %s. It leaves the pool all the same", account.address, told(error)
            )
            stored = account.with_disabled(reason, now)
            written = False
            self._pending_writes.write_later(stored, change, held, granted=False)
        assert stored is not None  # noqa: S101 - the change never removes
        if not lost:
            self._intents.pop(account.key, None)
        self._note_lost(stored)
        logger.warning(
            "Disabling account %s due to %s: refresh token likely revoked or expired",
            account.address,
            "invalid_grant" if "invalid_grant" in reason else reason.partition(":")[0],
        )
        if lost:
            logger.error(
                "The gateway, not the user, lost the refresh token of %s: an answer of the token endpoint never "
                "arrived. Re-add the account",
                account.address,
            )
        self._notify(AccountEvent(kind="disabled", account=stored, reason=stored.disabled_reason or ""))
        return Dead(account=stored, stored=written)

    def _note_lost(self, account: Account) -> None:
        """A refresh token that a gateway lost stays lost, also when an editor takes that out of the file."""
        if (account.disabled_reason or "").startswith(ROTATION_LOST) and account.token.refresh_token is not None:
            self._lost[account.key] = fingerprint(account.token.refresh_token)


def _is_of(pending: PendingRefresh, client: str) -> bool:
    return pending.client in {None, fingerprint(client)}
