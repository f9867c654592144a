"""Adding an account, and re-adding one: proved first, named by the provider, written under its lock."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

from authpool.accounts.account import Account, AccountKey, OAuthClient, Token, fingerprint
from authpool.accounts.name import check_name
from authpool.accounts.printable import clip_reason
from authpool.config import PoolConfig
from authpool.errors import (
    AuthpoolError,
    BrokenAccountError,
    RefusedError,
    StoreError,
    TokenSourceError,
    UnknownAccountError,
)
from authpool.gateway.service import Service
from authpool.oauth.identity import provider_identity
from authpool.oauth.verdict import Granted
from authpool.refresh.conditional_change import token_from_grant
from authpool.refresh.token_source import TokenSource
from authpool.store import Hold
from authpool.verbs.account_writing import AccountWriting
from authpool.verbs.added import Added, paused_note
from authpool.verbs.grouped_writes import GroupedWrites
from authpool.verbs.holdings import Holdings
from authpool.verbs.known_credentials import KnownCredentials
from authpool.verbs.naming import Naming
from authpool.verbs.proof import Proof, Prover, how_to_go_on, note_cut_off
from authpool.verbs.replacement import ADDED_FROM
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.reviving import Reviving
from authpool.verbs.sources import Credential

logger = logging.getLogger(__name__)


class Adding:
    """The verb `add`, for pools of every type."""

    def __init__(self, service: Service, holdings: Holdings, reviving: Reviving, unclaimed: RescuedTokens) -> None:
        self._service = service
        self._holdings = holdings
        self._reviving = reviving
        self._unclaimed = unclaimed
        self._writing = AccountWriting(service, holdings)
        self._known = KnownCredentials(service, holdings)
        self._prover = Prover(
            refresher=service.refresher, clock=service.clock, keep=unclaimed.save, drop=unclaimed.discard
        )

    async def add(self, pool_name: str, credential: Credential, name: str | None) -> str:
        """Prove, name and write; answer with a sentence for the operator.

        Raises RefusedError, StoreError, ConfigurationError, DiscoveryError.
        """
        pool = self._holdings.pool(pool_name)
        await self._holdings.require_open()
        credential = await self._unclaimed.opened(credential)
        naming = Naming(self._service.store, pool.name)
        expected = await naming.expected(credential, name)
        if (added := await self.add_without_grant(pool, credential, expected)) is not None:
            return added.told()
        async with self._holdings.patiently(self._unclaimed.alone(), "another `add` is under way in a process"):
            return await self._add_grant(pool, credential, name, naming)

    async def add_without_grant(self, pool: PoolConfig, credential: Credential, expected: str | None) -> Added | None:
        """Add to a pool whose accounts have no refresh token; None: those of this one do."""
        if pool.type == "static":
            return await self._add_static(pool, credential, expected)
        self._holdings.require_secret(pool)
        if pool.type == "client_credentials":
            return await self._add_client(pool, credential, expected)
        if (source := self._service.snapshot.sources.get(pool.name)) is not None:
            return await self._add_sourced(pool, source, credential, expected)
        return None

    # --- the types --------------------------------------------------------------------------------------------

    async def _add_static(self, pool: PoolConfig, credential: Credential, expected: str | None) -> Added:
        secret = credential.secret or credential.access_token
        if secret is None:
            raise RefusedError("the source holds no secret: for a static pool it is one line, or `access_token`")
        if expected is None:
            raise RefusedError("a static secret tells no name; add it as: authpool add POOL SOURCE NAME")
        account = self._writing.provisional(pool, credential, expected, Token(access_token=secret))
        async with self._holdings.held(account.key) as hold:
            return await self._writing.write(hold, pool, account)

    async def _add_sourced(
        self, pool: PoolConfig, source: TokenSource, credential: Credential, expected: str | None
    ) -> Added:
        usage = f"authpool add {pool.name} {'SOURCE' if source.takes_client else 'none'} NAME"
        if source.takes_client and (credential.client is None or credential.client.client_secret is None):
            raise RefusedError(f"the source holds no key pair, and accounts of {pool.name} have one: {usage}")
        if not source.takes_client and credential != replace(Credential(), name=credential.name):
            raise RefusedError(f"accounts of {pool.name} have no secret of their own: {usage}")
        if expected is None:
            raise RefusedError(f"say what the account is called: {usage}")
        account = self._writing.provisional(pool, credential, expected, Token())
        async with self._holdings.held(account.key) as hold:
            try:
                granted, asked_at = await self._service.refresher.source_tokens.prove(source, account, pool)
            except TokenSourceError as error:
                raise RefusedError(f"there is no token for {account.address}: {clip_reason(error.detail)}") from None
            token = token_from_grant(account.token, granted, asked_at)
            return await self._writing.write(hold, pool, replace(account, token=token))

    async def _add_client(self, pool: PoolConfig, credential: Credential, expected: str | None) -> Added:
        client = credential.client
        if client is None and credential.secret is not None and pool.client is not None:
            client = OAuthClient(client_id=pool.client.client_id, client_secret=credential.secret)
        if client is None and pool.client is not None and pool.client.client_key is not None:
            client = OAuthClient(client_id=pool.client.client_id)  # the key is the pool's: there is nothing to bring
        if client is None:
            raise RefusedError('the source holds no client: write it as JSON with "client_id" and "client_secret"')
        name = expected or client.client_id
        check_name(name)
        account = self._writing.provisional(pool, replace(credential, client=client), name, Token())
        endpoints = await self._service.resolver.resolve(pool)
        async with self._holdings.held(account.key) as hold:
            proof = await self._prover.prove(pool, endpoints, account, credential, hold.deadline)
            async with self._safely(pool, proof, credential):
                return await self._writing.write(
                    hold, pool, replace(account, token=replace(proof.token, refresh_token=None))
                )

    async def _add_grant(self, pool: PoolConfig, credential: Credential, name: str | None, naming: Naming) -> str:
        refresh_token = credential.refresh_token or credential.secret
        if refresh_token is None:
            raise RefusedError("the source holds no refresh token; sign in so that the provider issues one")
        twin = await self._known.account_of(pool, refresh_token)
        rescued = await self._unclaimed.successor(refresh_token) if twin is None else None
        if rescued is not None and rescued.refresh_token is not None:  # the source's own token is spent
            refresh_token = rescued.refresh_token
            credential = replace(
                credential,
                secret=None,
                refresh_token=refresh_token,
                path=rescued.path,
                exchanged_from=rescued.exchanged_from,
            )
            twin = await self._known.account_of(pool, refresh_token)
        if twin is not None:
            return await self._add_again(pool, twin, credential, name)
        return (await self.add_unknown(pool, credential, name, naming)).told()

    async def add_unknown(
        self,
        pool: PoolConfig,
        credential: Credential,
        name: str | None,
        naming: Naming,
        *,
        among: GroupedWrites | None = None,
    ) -> Added:
        """Add a refresh token that nobody here holds, nor ever exchanged; the caller is alone with it.

        `among`: it is one of many, whose accounts the caller looked up; each is held only while it is written. Raises
        UnprovedError where it does not work, RefusedError, StoreError, ConfigurationError, DiscoveryError.
        """
        refresh_token, expected = credential.refresh_token or credential.secret, name or credential.name
        endpoints = await self._service.resolver.resolve(pool)
        # Any name will do until the provider tells the true one.
        account = self._writing.provisional(pool, credential, expected or "unnamed", Token(refresh_token=refresh_token))
        async with AsyncExitStack() as held:
            hold: Hold | None = None
            if expected is not None and among is None:
                hold = await held.enter_async_context(self._holdings.held(account.key))
                await self._refuse_twin(hold, account)
            deadline = None if hold is None else hold.deadline
            proof = await self._prover.prove(pool, endpoints, account, credential, deadline)
            async with self._safely(pool, proof, credential):
                identity = await provider_identity(self._service.endpoint, endpoints.userinfo_url, proof.granted)
                name = await naming.decided(identity, credential, name)
                if hold is None:
                    hold = await held.enter_async_context(self._holdings.held(AccountKey.of(pool.name, name)))
                spent = refresh_token if proof.rotated else None
                named = replace(
                    account,
                    name=name,
                    subject=identity.subject,
                    token=proof.token,
                    extra={**account.extra, **_added_from(credential, spent)},
                ).with_replaced(spent, self._service.clock.time())
                return await self._writing.write(hold, pool, named, among=among)

    # --- a refresh token that is here already -----------------------------------------------------------------

    async def _add_again(self, pool: PoolConfig, twin: Account, credential: Credential, name: str | None) -> str:
        """The same credential once more: a refresh of the account it belongs to decides, under its own lock."""
        expected = name or (credential.name if twin.subject is None else None)
        if expected is not None and AccountKey.of(twin.pool, expected) != twin.key:
            raise RefusedError(f"that refresh token is the one of {twin.address}, not of {expected}")
        if twin.disabled:
            stored = await self._reviving.revive(twin)
            verdict = "works again: it is enabled"
        else:
            stored = (await self._reviving.refresh(twin)).account
            verdict = "has this credential already, and it works"
        await self._unclaimed.discard(credential.path)
        if stored.subject is None:
            await self._learn_subject(pool, stored)
        return f"{stored.address} {verdict}{paused_note(stored)}"

    async def _learn_subject(self, pool: PoolConfig, account: Account) -> None:
        """An account that was added before subjects were kept gets its own; no trouble where nobody tells it now."""
        endpoints = await self._service.resolver.resolve(pool)
        granted = Granted(access_token=account.token.access_token or "")
        with suppress(RefusedError):
            identity = await provider_identity(self._service.endpoint, endpoints.userinfo_url, granted)
            if identity.subject is None or (identity.name or "").casefold() != account.name.casefold():
                return

            def learn(current: Account | None) -> Account | None:
                same = current is not None and current.token.refresh_token == account.token.refresh_token
                known = current is None or current.subject is not None or not same
                return current if known or current is None else replace(current, subject=identity.subject)

            await self._holdings.update(account.address, learn)

    async def _refuse_twin(self, hold: Hold, account: Account) -> None:
        """While it is held: what was not there a moment ago must not be presented twice either."""
        try:
            stored = await hold.read()
        except (UnknownAccountError, BrokenAccountError):
            return
        if stored.token.refresh_token == account.token.refresh_token:
            raise RefusedError(f"{stored.address} was changed by somebody else meanwhile; try again")

    # --- after the proof --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _safely(self, pool: PoolConfig, proof: Proof, credential: Credential) -> AsyncIterator[None]:
        """Whatever fails from here on, a rotated refresh token stays on disk, and the error says where."""
        try:
            yield
        except (AuthpoolError, OSError) as error:
            if not proof.rotated:
                raise
            if proof.kept is not None and credential.path != proof.kept:
                await self._unclaimed.discard(credential.path)  # spent
            kind = StoreError if isinstance(error, StoreError) else RefusedError
            raise kind(f"{error}. {how_to_go_on(pool, proof.kept)}") from error
        except asyncio.CancelledError as cancelled:
            note_cut_off(cancelled, pool, proof)
            raise
        except BaseException:
            if proof.rotated:
                logger.error("Adding to %s failed. %s", pool.name, how_to_go_on(pool, proof.kept))
            raise
        for path in (proof.kept, credential.path):
            await self._unclaimed.discard(path)


def _added_from(credential: Credential, spent: str | None) -> dict[str, str]:
    marks = [*credential.exchanged_from, *([fingerprint(spent)] if spent is not None else [])]
    return {ADDED_FROM: " ".join(marks)} if marks else {}
