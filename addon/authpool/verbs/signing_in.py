"""The verb `login`: an account is added, or taken back, by its owner signing in at the provider."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from authpool.accounts.account import Token
from authpool.accounts.name import check_name
from authpool.accounts.printable import clip_reason
from authpool.config import PoolConfig
from authpool.errors import AuthpoolError, ConfigurationError, RefusedError, StoreError
from authpool.gateway.service import Service
from authpool.oauth.authorization import AuthorizationRequest, StrayAnswerError, authorization_request, code_in
from authpool.oauth.authorization import pasted_code as code_of
from authpool.oauth.discovery import Endpoints
from authpool.oauth.grant_request import GrantRequest, code_request, without_secrets
from authpool.oauth.id_token import check_id_token
from authpool.oauth.identity import id_token_claims, provider_identity
from authpool.oauth.redirect_listener import RedirectListener
from authpool.oauth.verdict import (
    ClientRejected,
    Granted,
    GrantRejected,
    PartlyGranted,
    SignInRequired,
    TryLater,
    Verdict,
)
from authpool.refresh.conditional_change import token_from_grant
from authpool.verbs.account_writing import AccountWriting
from authpool.verbs.holdings import Holdings
from authpool.verbs.known_credentials import KnownCredentials
from authpool.verbs.naming import Naming
from authpool.verbs.proof import how_to_go_on
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.sources import Credential

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 300.0
"""So long a person is waited for."""
_OFFLINE_ACCESS = "offline_access"


class Person(Protocol):
    """Who signs in, as far as the verb can reach them: at a terminal, or through a log."""

    def show(self, request: AuthorizationRequest, port: int) -> None:
        """Tell where to sign in; the answer comes to `port` on loopback."""

    async def pasted(self) -> str:
        """Wait for a line that may be the answer; for ever where there is nobody to paste one."""

    def doubt(self, why: str) -> None:
        """Tell why a pasted line is not the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _SignIn:
    """What is signed in to: a pool, its endpoints, and the name that is expected."""

    pool: PoolConfig
    endpoints: Endpoints
    name: str | None
    provisional: Credential = field(default_factory=Credential)


class SigningIn:
    """Signs people in, and writes what comes of it."""

    def __init__(self, service: Service, holdings: Holdings, unclaimed: RescuedTokens) -> None:
        self._service = service
        self._holdings = holdings
        self._unclaimed = unclaimed
        self._writing = AccountWriting(service, holdings)
        self._known = KnownCredentials(service, holdings)

    async def by_browser(
        self,
        pool_name: str,
        name: str | None,
        person: Person,
        *,
        port: int | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> str:
        """Sign in by authorization code; answer with a sentence for the operator.

        Whoever cancels it while a person is waited for frees the port at once and nothing is written; later it lands.
        Raises RefusedError, StoreError, ConfigurationError, DiscoveryError.
        """
        sign_in = await self._prepared(pool_name, name)
        pool, endpoints = sign_in.pool, sign_in.endpoints
        if endpoints.authorize_url is None:
            device = "; it has a `device_url`: authpool login --device" if endpoints.device_url else ""
            raise RefusedError(f"no `authorize_url` of {pool.name} is configured or discovered{device}")
        async with RedirectListener.open(pool.sign_in, port) as listener:
            request = authorization_request(pool, endpoints, listener.redirect_uri)
            person.show(request, listener.port)
            code = await self._code(request, listener, person, timeout_seconds)
            try:
                sentence = await _landed(self._exchange(sign_in, request, code))
            except AuthpoolError as error:
                listener.fail(str(error))
                raise
            except BaseException:
                listener.fail("it failed; the terminal, or the gateway's log, says why")
                raise
            listener.succeed(sentence)
            return sentence

    # --- before -----------------------------------------------------------------------------------------------

    async def _prepared(self, pool_name: str, name: str | None) -> _SignIn:
        """See that what comes of it can be used, before anybody is bothered."""
        pool = self._holdings.pool(pool_name)
        if pool.type != "refresh_token" or pool.client is None:
            raise RefusedError(f"nobody signs in to {pool.name}, whose type is {pool.type}: authpool add {pool.name}")
        if name is not None:
            check_name(name)
        await self._holdings.require_open()
        self._holdings.require_secret(pool)
        endpoints = await self._service.resolver.resolve(pool)
        if endpoints.token_url is None:
            where = f"authpool.toml: pools.{pool.name}.token_url"
            raise ConfigurationError(where, "is neither configured nor discovered.", "Add it.")
        if name is None and endpoints.userinfo_url is None and "openid" not in pool.scopes:
            raise RefusedError(
                f"this provider will not tell who signed in: say what the account is called, as in authpool login "
                f'{pool.name} NAME, or add the scope "openid" to the pool'
            )
        return _SignIn(pool=pool, endpoints=endpoints, name=name)

    async def _code(
        self, request: AuthorizationRequest, listener: RedirectListener, person: Person, timeout_seconds: float
    ) -> str:
        """Wait for the code, by whichever way it comes first."""
        ways = [
            asyncio.ensure_future(listener.code(lambda query: code_in(request, query))),
            asyncio.ensure_future(_pasted(request, person)),
        ]
        try:
            done, _ = await asyncio.wait(ways, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as cancelled:
            cancelled.add_note("Nothing was changed")
            raise
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        if not done:
            raise RefusedError(f"nobody signed in within {timeout_seconds:g} s: nothing was changed")
        return next(way for way in ways if way in done).result()

    # --- after ------------------------------------------------------------------------------------------------

    async def _exchange(self, sign_in: _SignIn, request: AuthorizationRequest, code: str) -> str:
        pool, clock = sign_in.pool, self._service.clock
        account = self._writing.provisional(pool, sign_in.provisional, sign_in.name or "unnamed", Token())
        url = sign_in.endpoints.token_url or ""
        asked_at = clock.time()
        form = code_request(pool, url, account, code=code, verifier=request.verifier, redirect_uri=request.redirect_uri)
        verdict, lost = await self._service.refresher.ask(form, pool)
        if not isinstance(verdict, Granted):
            if not isinstance(verdict, PartlyGranted | TryLater):
                verdict = replace(
                    verdict, reason=without_secrets(verdict.reason, account, pool, code, request.verifier)
                )
            why = clip_reason(_why_not(verdict, lost=lost))
            raise RefusedError(f"{why}. Nothing was changed: sign in again")
        if verdict.id_token is not None:
            client_id = pool.client.client_id if pool.client is not None else ""
            check_id_token(id_token_claims(verdict.id_token), request, client_id, clock.time())
        return await self.take(sign_in, form, verdict, asked_at)

    async def take(self, sign_in: _SignIn, form: GrantRequest, granted: Granted, asked_at: float) -> str:
        """Write what was granted to who signed in. Raises RefusedError, StoreError."""
        pool = sign_in.pool
        await self._service.refresher.accepted(form, pool)
        if granted.refresh_token is None:
            raise RefusedError(_no_refresh_token(pool))
        found = Credential(refresh_token=granted.refresh_token, access_token=granted.access_token)
        try:
            return await self._write(sign_in, granted, asked_at)
        except (_ToBeKeptError, StoreError, OSError) as error:
            cause = error.__cause__ if isinstance(error, _ToBeKeptError) else error
            kind = StoreError if isinstance(cause, StoreError) else RefusedError
            kept = await self._unclaimed.save(pool.name, found)
            raise kind(f"{cause}. {how_to_go_on(pool, kept)}") from cause

    async def _write(self, sign_in: _SignIn, granted: Granted, asked_at: float) -> str:
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
            return await self._writing.write(hold, pool, fresh, vouched=True)


class _ToBeKeptError(Exception):
    """What was granted could not be written, for a reason that is neither the person's nor the provider's."""


async def _pasted(request: AuthorizationRequest, person: Person) -> str:
    while True:
        line = await person.pasted()
        try:
            return code_of(request, line)
        except StrayAnswerError as stray:
            person.doubt(str(stray))


async def _landed(work: Coroutine[Any, Any, str]) -> str:
    """Carry out what must not be cut off; who is cancelled meanwhile ends after it, with a note of what came of it."""
    task = asyncio.create_task(work, name="authpool login")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if not task.cancelled():
            cancelled.add_note(f"It was done before that: {task.result()}" if error is None else str(error))
        raise


def _why_not(verdict: Verdict, *, lost: bool) -> str:
    match verdict:
        case _ if lost:
            return "the provider's answer was lost on the way, and a code is good for once"
        case GrantRejected():
            return f"the provider does not take the code ({verdict.reason}): it is spent, too old, or another client's"
        case SignInRequired():
            return f"the provider wants more of the user ({verdict.reason})"
        case ClientRejected():
            return f"the provider rejects the client ({verdict.reason}): see client_id, client_secret and client_auth"
        case TryLater():
            return f"no token came from the token endpoint ({verdict.detail})"
        case _:
            return "the token endpoint gave no access token that can be used"


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
