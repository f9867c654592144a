"""What a sign-in granted becomes an account's credential: whose it is, whether it can be used, and where it is kept."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from authpool.accounts.account import Account, Token
from authpool.config import PoolConfig
from authpool.errors import AuthpoolError, RefusedError, StoreError
from authpool.gateway.service import Service
from authpool.oauth.discovery import Endpoints
from authpool.oauth.grant_request import GrantRequest
from authpool.oauth.id_token import check_id_token
from authpool.oauth.identity import id_token_claims, provider_identity
from authpool.oauth.verdict import Granted, PartlyGranted
from authpool.refresh.conditional_change import token_from_grant
from authpool.verbs.account_writing import AccountWriting
from authpool.verbs.holdings import Holdings
from authpool.verbs.known_credentials import KnownCredentials
from authpool.verbs.naming import Naming
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.sources import Credential

_OFFLINE_ACCESS = "offline_access"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """What is signed in to: a pool, its endpoints, and the name that is expected."""

    pool: PoolConfig
    endpoints: Endpoints
    name: str | None
    provisional: Credential = field(default_factory=Credential)


class SignedIn:
    """Writes what was granted to who has signed in."""

    def __init__(self, service: Service, holdings: Holdings, unclaimed: RescuedTokens) -> None:
        self._service = service
        self._holdings = holdings
        self._unclaimed = unclaimed
        self._writing = AccountWriting(service, holdings)
        self._known = KnownCredentials(service, holdings)

    def provisional(self, sign_in: SignIn) -> Account:
        """The account as far as it is known before anybody has signed in: it tells the client."""
        return self._writing.provisional(sign_in.pool, sign_in.provisional, sign_in.name or "unnamed", Token())

    async def take(
        self,
        sign_in: SignIn,
        form: GrantRequest,
        granted: Granted | PartlyGranted,
        asked_at: float,
        *,
        nonce: str | None,
    ) -> str:
        """Write what was granted to who signed in. Raises RefusedError, StoreError."""
        pool = sign_in.pool
        if isinstance(granted, PartlyGranted):  # nobody can be asked whose it is; a refresh brings the rest
            raise RefusedError(_where_it_is(pool, await self._keep(pool, granted), granted.detail))
        if granted.id_token is not None:
            check_id_token(
                id_token_claims(granted.id_token),
                issuers=pool.sign_in.issuers,
                client_id=pool.client.client_id if pool.client is not None else "",
                nonce=nonce,
                now=self._service.clock.time(),
            )
        await self._service.refresher.accepted(form, pool)
        if granted.refresh_token is None:
            raise RefusedError(_no_refresh_token(pool), error_code="no_refresh_token")
        path = await self._keep(pool, granted)  # whatever happens from here on, it is somewhere
        try:
            sentence = await self._write(sign_in, granted, asked_at)
        except (_ToBeKeptError, StoreError, OSError) as error:
            cause = error.__cause__ if isinstance(error, _ToBeKeptError) else error
            kind = StoreError if isinstance(cause, StoreError) else RefusedError
            raise kind(_where_it_is(pool, path, str(cause))) from cause
        except RefusedError:
            await self._unclaimed.discard(path)  # somebody else's: nothing of it is to stay
            raise
        await self._unclaimed.discard(path)
        return sentence

    async def _keep(self, pool: PoolConfig, granted: Granted | PartlyGranted) -> Path | None:
        """Write what was granted where it can be taken up from; None where nothing takes it."""
        access_token = granted.access_token if isinstance(granted, Granted) else None
        found = Credential(refresh_token=granted.refresh_token, access_token=access_token)
        return await self._unclaimed.save(pool.name, found)

    async def _write(self, sign_in: SignIn, granted: Granted, asked_at: float) -> str:
        pool = sign_in.pool
        token = token_from_grant(Token(), granted, asked_at)
        try:
            identity = await provider_identity(self._service.endpoint, sign_in.endpoints.userinfo_url, granted)
        except AuthpoolError as error:
            raise _ToBeKeptError from error
        naming = Naming(self._service.store, pool.name, signed_in=True)
        name = await naming.decided(identity, sign_in.provisional, sign_in.name)
        account = self._writing.provisional(pool, sign_in.provisional, name, token)
        twin = await self._known.account_of(pool, granted.refresh_token or "")
        if twin is not None and twin.key != account.key:
            raise RefusedError(f"the provider gave the refresh token that {twin.address} has: nothing was changed")
        async with AsyncExitStack() as stack:
            try:
                hold = await stack.enter_async_context(self._holdings.held(account.key))
            except RefusedError as error:
                raise _ToBeKeptError from error
            fresh = replace(account, subject=identity.subject)
            return (await self._writing.write(hold, pool, fresh, vouched=True)).told()


class _ToBeKeptError(Exception):
    """What was granted could not be written, for a reason that is neither the person's nor the provider's."""


def _no_refresh_token(pool: PoolConfig) -> str:
    """Say what would bring one; where that is known, in the words of authpool.toml."""
    scope = pool.sign_in.refresh_scope or _OFFLINE_ACCESS
    params = pool.sign_in.authorize_params
    if scope not in pool.scopes and "access_type" not in params:
        remedy = f'add the scope "{scope}" to `scopes`'
        if pool.sign_in.refresh_scope is None:
            remedy += ', or what this provider wants instead, such as `authorize_params = { access_type = "offline" }`'
    elif "consent" not in params.get("prompt", ""):
        remedy = 'many providers give one only with consent: `authorize_params = { prompt = "consent" }`'
    else:
        remedy = "see which scope, parameter or setting of the client this provider wants for one"
    return f"the provider gave no refresh token, so nothing was changed. In authpool.toml, pools.{pool.name}: {remedy}"


def _where_it_is(pool: PoolConfig, path: Path | None, why: str) -> str:
    """Say why what was granted is no account's yet, and how to go on with it."""
    if path is None:
        return f"{why}. Nor could the refresh token that came be kept anywhere: sign in again"
    return f"{why}. The refresh token that came is kept in {path}; go on with: authpool add {pool.name} @{path} NAME"
