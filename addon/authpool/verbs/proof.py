"""Proving a credential: the token endpoint is asked for an access token with it, before anything is written."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from authpool.accounts.account import Account, Token, fingerprint
from authpool.accounts.printable import clip_reason
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import ConfigurationError, RefusedError, UnprovedError
from authpool.oauth.discovery import Endpoints
from authpool.oauth.grant_request import GrantRequest, grant_request, without_secrets
from authpool.oauth.verdict import ClientRejected, Granted, GrantRejected, PartlyGranted, SignInRequired, TryLater
from authpool.refresh.conditional_change import token_from_grant
from authpool.refresh.refresher import Refresher
from authpool.verbs.sources import Credential

type Keep = Callable[[str, Credential], Awaitable[Path | None]]
"""Writes a credential that exists nowhere else, as `RescuedTokens.save` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A credential that works. When proving it changed its refresh token, `kept` is where the new one is."""

    token: Token = field(repr=False)
    granted: Granted = field(repr=False)
    rotated: bool
    kept: Path | None = None


class Prover:
    """Proves credentials of any pool. `keep` is called with a rotated one before anything else is done with it.

    `drop` is told of what was kept and is spent meanwhile.
    """

    def __init__(
        self, *, refresher: Refresher, clock: Clock, keep: Keep, drop: Callable[[Path | None], Awaitable[None]]
    ) -> None:
        self._refresher = refresher
        self._clock = clock
        self._keep = keep
        self._drop = drop

    async def prove(
        self,
        pool: PoolConfig,
        endpoints: Endpoints,
        account: Account,
        credential: Credential,
        deadline: float | None = None,
    ) -> Proof:
        """Ask with what the provisional `account` holds. Raises UnprovedError saying why it does not work.

        `deadline` (monotonic seconds): when the hold on the account ends. A caller that is cancelled meanwhile ends
        only after the answer is safe; if that answer changed the refresh token, a note of the CancelledError says how
        to go on.
        """
        if endpoints.token_url is None:
            where = f"authpool.toml: pools.{pool.name}.token_url"
            raise ConfigurationError(where, "is neither configured nor discovered.", "Add it.")
        request = grant_request(pool, endpoints.token_url, account)
        asking = asyncio.create_task(self._ask(pool, request, account, credential, deadline), name="authpool prove")
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError as cancelled:
            await ended(asking)
            if not asking.cancelled():
                refused = asking.exception()
                if refused is None:
                    note_cut_off(cancelled, pool, asking.result())
                elif isinstance(refused, RefusedError):
                    cancelled.add_note(str(refused))
            raise

    async def _ask(
        self,
        pool: PoolConfig,
        request: GrantRequest,
        account: Account,
        credential: Credential,
        deadline: float | None,
    ) -> Proof:
        verdict, token, lost = await self._present(pool, request, account.token, deadline)
        first: Path | None = None
        if isinstance(verdict, PartlyGranted):  # what came is kept, and presented once in its turn
            first = await self._save(pool, account, credential, token)
            renewed = replace(account, token=token)
            verdict, token, lost = await self._present(pool, grant_request(pool, request.url, renewed), token, deadline)
        rotated = token.refresh_token != account.token.refresh_token
        kept = first
        if token.refresh_token is not None and rotated and not isinstance(verdict, NotGranted):
            kept = await self._save(pool, account, credential, token)
        for spent in {first, credential.path} - {kept, None} if first is not None and kept is not None else ():
            await self._drop(spent)
        if isinstance(verdict, Granted):
            await self._refresher.accepted(request, pool)
            return Proof(token=token, granted=verdict, rotated=rotated, kept=kept)
        if not isinstance(verdict, PartlyGranted | TryLater):
            verdict = replace(verdict, reason=without_secrets(verdict.reason, account, pool, token.refresh_token))
        why, advice = explain(verdict, lost=lost)
        told = f"{clip_reason(why)}. {advice}"
        raise _unproved(f"{told}. {how_to_go_on(pool, kept)}" if rotated else told, verdict, spent=lost or rotated)

    async def _present(
        self, pool: PoolConfig, request: GrantRequest, token: Token, deadline: float | None
    ) -> "tuple[Granted | PartlyGranted | NotGranted, Token, bool]":
        """Ask once: the verdict, the token it makes of this one, and whether an answer was lost."""
        asked_at = self._clock.time()
        verdict, lost = await self._refresher.ask(request, pool, deadline)
        if isinstance(verdict, Granted | PartlyGranted):
            token = token_from_grant(token, verdict, asked_at)
        return verdict, token, lost

    async def _save(self, pool: PoolConfig, account: Account, credential: Credential, token: Token) -> Path | None:
        fresh = replace(
            credential,
            secret=None,
            refresh_token=token.refresh_token,
            access_token=token.access_token,
            exchanged_from=(*credential.exchanged_from, fingerprint(account.token.refresh_token or "")),
        )
        return await self._keep(pool.name, fresh)


NotGranted = GrantRejected | SignInRequired | ClientRejected | TryLater


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for the end of a task, however often whoever waits is cancelled meanwhile."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])


def note_cut_off(cancelled: asyncio.CancelledError, pool: PoolConfig, proof: Proof) -> None:
    """Note on what ends an `add` early where its credential is now, if it was exchanged for another one."""
    if proof.rotated:
        cancelled.add_note(f"Adding to {pool.name} was cut off. {how_to_go_on(pool, proof.kept)}")


def how_to_go_on(pool: PoolConfig, kept: Path | None) -> str:
    """What to do with a credential that was exchanged for a new one, which is kept there."""
    if kept is None:
        return "Its refresh token was exchanged for a new one, which could not be kept anywhere: sign in again"
    return (
        f"Its refresh token was exchanged for a new one, which is kept in {kept}; "
        f"go on with: authpool add {pool.name} @{kept} NAME"
    )


def _unproved(message: str, verdict: NotGranted | PartlyGranted, *, spent: bool) -> UnprovedError:
    match verdict:
        case ClientRejected(code=code):
            return UnprovedError(message, fault="client", code=code, spent=spent)
        case TryLater(retry_after_seconds=wait, ambiguous=ambiguous):
            return UnprovedError(message, fault="provider", retry_after_seconds=wait, spent=spent or ambiguous)
        case PartlyGranted():
            return UnprovedError(message, fault="provider", spent=True)
        case _:
            return UnprovedError(message, fault="credential", spent=spent)


def explain(verdict: NotGranted | PartlyGranted, *, lost: bool) -> tuple[str, str]:
    """Why a credential could not be proved, and what to do about it. `lost`: an answer never arrived."""
    match verdict:
        case GrantRejected() if lost:
            return (
                f"the provider's answer was lost on the way, and then it rejected the credential ({verdict.reason})",
                "That answer may have spent it: sign in again for a new one",
            )
        case GrantRejected():
            return f"the provider rejects the credential ({verdict.reason})", "Sign in again and add the new one"
        case SignInRequired():
            return (
                f"the provider wants the user to sign in again ({verdict.reason})",
                "Add the refresh token of that sign-in",
            )
        case PartlyGranted():
            return verdict.detail, "Try again"
        case ClientRejected():
            return (
                f"the provider rejects the client ({verdict.reason})",
                "Check client_id, client_secret or client_key, and client_auth of the pool, or of what was added",
            )
        case TryLater(ambiguous=True):
            return (
                f"the provider's answer was lost ({verdict.detail})",
                "Try again at once: for some seconds many providers answer the same token again",
            )
        case TryLater():
            return (
                f"no token came from the token endpoint ({verdict.detail})",
                "Nothing was changed: try again when that is mended or over",
            )
