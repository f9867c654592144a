"""Asking the token endpoint for one account because an operator says so, and taking a disabled one back."""

import asyncio

from authpool.accounts.account import Account
from authpool.accounts.events import AccountEvent
from authpool.errors import RefusedError, StoreError, StoreUnavailableError
from authpool.gateway.service import Service
from authpool.pool.report import timestamp
from authpool.refresh.credential_rules import tells_of_a_copy
from authpool.refresh.outcome import Dead, Gone, Misconfigured, Outcome, Ready, Rejected, Unavailable
from authpool.verbs.holdings import Holdings
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.sources import Credential


class Reviving:
    """Forced refreshes, whose failures are told in words for the operator."""

    def __init__(self, service: Service, holdings: Holdings, unclaimed: RescuedTokens) -> None:
        self._service = service
        self._holdings = holdings
        self._unclaimed = unclaimed

    async def refresh(self, account: Account, *, one_of_several: bool = False) -> Ready:
        """Refresh an account, disabled or not. Raises RefusedError saying what stands against it, StoreError.

        For one alone the token endpoint is asked whatever is known of it, for `one_of_several` it is not.
        """
        pool = self._holdings.pool(account.pool)
        self._holdings.require_secret(pool, account)
        held_back = self._service.refresher.held_back(account) if one_of_several else None
        outcome = held_back or await self._force(account)
        if isinstance(outcome, Unavailable) and outcome.account is not None:
            await self._make_sure(outcome.account)
        if isinstance(outcome, Unavailable) and tells_of_a_copy(outcome.detail):
            raise RefusedError(f"{account.address} is held back: {outcome.detail}")
        if not isinstance(outcome, Ready):
            asked = "" if held_back is None else "not asked: "
            told = f"{account.address}: {asked}{explain(outcome, was_disabled=account.disabled)}"
            raise RefusedError(told, error_code=_code(outcome))
        await self._make_sure(outcome.account)
        await self._holdings.follow()
        return outcome

    async def revive(self, account: Account, *, one_of_several: bool = False) -> Account:
        """Clear `disabled` once a refresh has succeeded; as `refresh`. Raises RefusedError, StoreError."""
        proved = (await self.refresh(account, one_of_several=one_of_several)).account

        def enable(current: Account | None) -> Account | None:
            same = current is not None and current.token.refresh_token == proved.token.refresh_token
            return current.with_enabled() if current is not None and same else current

        stored = await self._holdings.update(account.address, enable)
        if stored.disabled:
            raise RefusedError(f"{account.address} was changed by somebody else meanwhile; try again")
        self._service.notify(AccountEvent(kind="enabled", account=stored))
        return stored

    async def enable_by_force(self, account: Account) -> Account:
        """Clear `disabled` because a person knows better: nothing is asked. Raises RefusedError, StoreError."""
        async with self._holdings.held(account.key) as hold:
            stored = await hold.update(lambda current: current and current.with_enabled())
            if stored is None:
                raise await self._holdings.unknown(account.key)
            # So written, the credential counts as the account's newest one, whatever was written before.
            self._service.notify(AccountEvent(kind="enabled", account=stored, reason="by force, without a refresh"))
        await self._holdings.follow()
        return stored

    async def _force(self, account: Account) -> Outcome:
        refresher = self._service.refresher
        try:
            async with asyncio.timeout(self._holdings.patience_seconds):
                if refresher.refreshing(account.key):
                    await refresher.refresh(account)  # a flight not forced would be shared: let it land first
                return await refresher.refresh(account, force=True)
        except TimeoutError:
            return Unavailable(detail="another process holds it and does not move on", cause="account")

    async def _make_sure(self, account: Account) -> None:
        """A gateway keeps trying to write a new pair; a command line ends, and must not take it along."""
        if self._holdings.live:
            return
        try:
            stored = await self._service.store.read(account.key)
            if stored.generation >= account.generation:
                return
        except StoreError:
            pass
        fresh = Credential(
            refresh_token=account.token.refresh_token,
            access_token=account.token.access_token,
            client=account.client,
        )
        kept = await self._unclaimed.save(account.pool, fresh)
        where = f"it is kept in {kept}; make room, then: authpool add {account.pool} @{kept}" if kept else "it is lost"
        raise StoreUnavailableError(f"the new token of {account.address} can't be written: {where}")


def explain(outcome: Outcome, *, was_disabled: bool) -> str:
    """Why a forced refresh gave no token, and what to do."""
    match outcome:
        case Dead():
            since = outcome.account.disabled_at
            state = "it stays disabled" if was_disabled else "it is disabled now"
            when = f", since {timestamp(since)}" if since is not None else ""
            reason = outcome.account.disabled_reason or "the refresh token is dead"
            return f"{state} ({reason}{when}). Sign in again and add the new refresh token with `authpool add`"
        case Rejected():
            return "invalid_grant, and nobody could be asked a second time yet whether it lasts: try again"
        case Unavailable():
            return f"no token now ({outcome.detail}). Nothing was decided about the account: try again"
        case Misconfigured():
            return f"{outcome.detail}. Mend the pool in authpool.toml"
        case Gone():
            return outcome.detail
        case Ready():
            return "it has a token"


def _code(outcome: Outcome) -> str:
    """The same for scripts."""
    match outcome:
        case Dead() | Rejected():
            return "credential_rejected"
        case Misconfigured():
            return "client_rejected"
        case Unavailable(cause="endpoint"):
            return "provider_unavailable"
        case Unavailable(cause="store"):
            return "store_unavailable"
        case Gone():
            return "unknown_account"
        case _:
            return "refused"
