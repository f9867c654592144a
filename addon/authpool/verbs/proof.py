"""Proving a credential: the token endpoint is asked for an access token with it, before anything is written."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from authpool.account import Account, Token, clip_reason
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.config.discovery import Endpoints
from authpool.errors import ConfigurationError, RefusedError
from authpool.refresh.grant_request import GrantRequest, client_of, grant_request
from authpool.refresh.refresher import Refresher
from authpool.refresh.succession import token_from_grant
from authpool.refresh.verdict import ClientRejected, Granted, GrantRejected, SignInRequired, TryLater
from authpool.verbs.sources import Credential

type Keep = Callable[[str, Credential], Awaitable[Path | None]]
"""Writes a credential that exists nowhere else, as `Unclaimed.save` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A credential that works. When proving it changed its refresh token, `kept` is where the new one is."""

    token: Token = field(repr=False)
    granted: Granted = field(repr=False)
    rotated: bool
    kept: Path | None = None


class Prover:
    """Proves credentials of any pool. `keep` is called with a rotated one before anything else is done with it."""

    def __init__(self, *, refresher: Refresher, clock: Clock, keep: Keep) -> None:
        self._refresher = refresher
        self._clock = clock
        self._keep = keep

    async def prove(self, pool: PoolConfig, endpoints: Endpoints, account: Account, credential: Credential) -> Proof:
        """Ask with what the provisional `account` holds. Raises RefusedError saying why it does not work.

        A caller that is cancelled meanwhile ends only after the answer is safe.
        """
        if endpoints.token_url is None:
            where = f"authpool.toml: pools.{pool.name}.token_url"
            raise ConfigurationError(where, "is neither configured nor discovered.", "Add it.")
        request = grant_request(pool, endpoints.token_url, account)
        asking = asyncio.create_task(self._ask(pool, request, account, credential), name="authpool prove")
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.wait([asking])
            if not asking.cancelled():
                asking.exception()  # told to nobody: who asked has left
            raise

    async def _ask(self, pool: PoolConfig, request: GrantRequest, account: Account, credential: Credential) -> Proof:
        asked_at = self._clock.time()
        verdict, lost = await self._refresher.ask(request, pool)
        if not isinstance(verdict, Granted):
            why, advice = explain(verdict, lost=lost)
            raise RefusedError(f"{clip_reason(_without_secrets(why, pool, account))}. {advice}")
        token = token_from_grant(account.token, verdict, asked_at)
        rotated = token.refresh_token != account.token.refresh_token
        kept = None
        if rotated and token.refresh_token is not None:
            fresh = replace(credential, secret=None, refresh_token=token.refresh_token, access_token=token.access_token)
            kept = await self._keep(pool.name, fresh)
        return Proof(token=token, granted=verdict, rotated=rotated, kept=kept)


type NotGranted = GrantRejected | SignInRequired | ClientRejected | TryLater


def explain(verdict: NotGranted, *, lost: bool) -> tuple[str, str]:
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
        case ClientRejected():
            return (
                f"the provider rejects the client ({verdict.reason})",
                "Check client_id, client_secret and client_auth of the pool, or of what was added",
            )
        case TryLater(ambiguous=True):
            return (
                f"the provider's answer was lost ({verdict.detail})",
                "Try again at once: for some seconds many providers answer the same token again",
            )
        case TryLater():
            return f"the token endpoint does not help now ({verdict.detail})", "Nothing was changed: try again later"


def _without_secrets(text: str, pool: PoolConfig, account: Account) -> str:
    """Take out what was sent, in case the provider's description repeats it."""
    client = client_of(pool, account)
    for secret in (account.token.refresh_token, client.client_secret if client is not None else None):
        if secret:
            text = text.replace(secret, "[redacted]")
    return text
