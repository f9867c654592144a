"""The verb `login`: an account is added, or taken back, by its owner signing in at the provider."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from authpool.accounts.name import check_name
from authpool.accounts.printable import clip_reason
from authpool.errors import AuthpoolError, ConfigurationError, RefusedError
from authpool.gateway.service import Service
from authpool.oauth.authorization import AuthorizationRequest, StrayAnswerError, authorization_request, code_in
from authpool.oauth.authorization import pasted_code as code_of
from authpool.oauth.device_authorization import TIMED_OUT, DeviceAuthorization, DeviceRefusedError, too_late
from authpool.oauth.grant_request import code_request, device_token_request, without_secrets
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
from authpool.verbs.holdings import Holdings
from authpool.verbs.person import TIMEOUT_SECONDS, Person
from authpool.verbs.proof import ended
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.signed_in import SignedIn, SignIn


class SigningIn:
    """Signs people in, and writes what comes of it."""

    def __init__(self, service: Service, holdings: Holdings, unclaimed: RescuedTokens) -> None:
        self._service = service
        self._holdings = holdings
        self._signed_in = SignedIn(service, holdings, unclaimed)

    async def sign_in(
        self,
        pool_name: str,
        name: str | None,
        person: Person,
        *,
        device: bool = False,
        port: int | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> str:
        """Sign in, and answer with a sentence for the operator.

        On another `device` where that is wanted, where no browser can be started, or where there is no other way; by
        authorization code else, or when the provider gives no code for a device. Whoever cancels it while a person is
        waited for frees the port at once and nothing is written; later it lands. Raises RefusedError, StoreError,
        ConfigurationError, DiscoveryError.
        """
        sign_in = await self._prepared(pool_name, name)
        pool, endpoints = sign_in.pool, sign_in.endpoints
        if device and endpoints.device_url is None:
            raise RefusedError(f"no `device_url` of {pool.name} is configured or discovered")
        if endpoints.authorize_url is None and endpoints.device_url is None:
            raise RefusedError(f"neither `authorize_url` nor `device_url` of {pool.name} is configured or discovered")
        by_itself = port is None and person.why_headless() is not None
        if endpoints.device_url is not None and (device or by_itself or endpoints.authorize_url is None):
            try:
                return await self._by_device(sign_in, endpoints.device_url, person, timeout_seconds)
            except DeviceRefusedError as refused:
                if device or endpoints.authorize_url is None:
                    raise
                person.warn(f"{refused}: it goes on with a browser")
        return await self._by_browser(sign_in, person, port, timeout_seconds)

    async def _by_browser(self, sign_in: SignIn, person: Person, port: int | None, timeout_seconds: float) -> str:
        """Sign in by authorization code."""
        pool, endpoints = sign_in.pool, sign_in.endpoints
        async with RedirectListener.open(pool.sign_in, port) as listener:
            request = authorization_request(pool, endpoints, listener.redirect_uri)
            person.show(request, listener.port)
            code = await self._code(request, listener, person, timeout_seconds)
            return await _landed(self._finish(sign_in, request, code, listener))

    async def _by_device(self, sign_in: SignIn, device_url: str, person: Person, timeout_seconds: float) -> str:
        """Sign in by a code that is typed on another device (RFC 8628)."""
        pool, clock = sign_in.pool, self._service.clock
        account = self._signed_in.provisional(sign_in)
        flow = DeviceAuthorization(self._service.endpoint, clock, pool, account, person.warn)
        code = await flow.begin(device_url)
        person.show_code(code)
        token_url = sign_in.endpoints.token_url or ""
        waiting = asyncio.create_task(flow.wait(code, token_url), name="authpool device authorization")
        try:
            done, _ = await asyncio.wait({waiting}, timeout=timeout_seconds)
        except asyncio.CancelledError as cancelled:
            cancelled.add_note("Nothing was changed")
            raise
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if not done:
            raise RefusedError(too_late(flow.trouble, timeout_seconds, "signed in"), error_code=TIMED_OUT)
        granted = waiting.result()
        form = device_token_request(pool, token_url, account, code.device_code)
        return await _landed(self._signed_in.take(sign_in, form, granted, clock.time(), nonce=None))

    # --- before -----------------------------------------------------------------------------------------------

    async def _prepared(self, pool_name: str, name: str | None) -> SignIn:
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
        return SignIn(pool=pool, endpoints=endpoints, name=name)

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
            raise RefusedError(too_late(None, timeout_seconds, "signed in"), error_code=TIMED_OUT)
        return next(way for way in ways if way in done).result()

    # --- after ------------------------------------------------------------------------------------------------

    async def _finish(
        self, sign_in: SignIn, request: AuthorizationRequest, code: str, listener: RedirectListener
    ) -> str:
        """Let the browser see what came of it, whoever has been cancelled meanwhile."""
        try:
            sentence = await self._exchange(sign_in, request, code)
        except AuthpoolError as error:
            listener.fail(str(error))
            raise
        except BaseException:
            listener.fail("it failed; the terminal, or the gateway's log, says why")
            raise
        listener.succeed(sentence)
        return sentence

    async def _exchange(self, sign_in: SignIn, request: AuthorizationRequest, code: str) -> str:
        pool, clock = sign_in.pool, self._service.clock
        account = self._signed_in.provisional(sign_in)
        url = sign_in.endpoints.token_url or ""
        asked_at = clock.time()
        form = code_request(pool, url, account, code=code, verifier=request.verifier, redirect_uri=request.redirect_uri)
        verdict, lost = await self._service.refresher.ask(form, pool)
        if not isinstance(verdict, Granted | PartlyGranted):
            if not isinstance(verdict, TryLater):
                verdict = replace(
                    verdict, reason=without_secrets(verdict.reason, account, pool, code, request.verifier)
                )
            why = clip_reason(_why_not(verdict, lost=lost))
            raise RefusedError(f"{why}. Nothing was changed: sign in again")
        return await self._signed_in.take(sign_in, form, verdict, asked_at, nonce=request.nonce)


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
        await ended(task)
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
