"""Ending an account's grants at the provider, when the account is removed for good (RFC 7009)."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from authpool.accounts.account import Account, BrokenAccount, fingerprint
from authpool.config import PoolConfig
from authpool.errors import ConfigurationError, RefusedError, StoreError
from authpool.gateway.service import Service
from authpool.oauth.discovery import DiscoveryError
from authpool.oauth.grant_request import client_name, revocation_request
from authpool.oauth.revocation_answer import Revoked, revocation_outcome
from authpool.store import SearchesUnread
from authpool.verbs.holdings import Holdings
from authpool.verbs.replacement import ADDED_FROM

TRIES = 3
LONGEST_SECONDS = 10.0
"""A revocation endpoint that does not answer is asked again only so long after the first time."""
NO_ENDPOINT = "the provider names no revocation endpoint; the grant stays valid until revoked there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of grants. `kept` says why one lives on, and nothing failed; `trouble` why one does unwanted.

    `revoked`: how many were; `before`: how many the provider says were at their end already; `shared`: one was kept for
    another account.
    """

    revoked: int = 0
    before: int = 0
    kept: str = ""
    trouble: str = ""
    shared: bool = False

    def __add__(self, other: Self) -> Self:
        return type(self)(
            revoked=self.revoked + other.revoked,
            before=self.before + other.before,
            kept=self.kept or other.kept,
            trouble=self.trouble or other.trouble,
            shared=self.shared or other.shared,
        )


class Revocation:
    """Asks revocation endpoints. Whoever calls holds the account, so that nobody refreshes meanwhile."""

    def __init__(self, service: Service, holdings: Holdings, rng: random.Random | None = None) -> None:
        self._service = service
        self._holdings = holdings
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing

    def may_be_granted(self, pool_name: str) -> bool:
        """Whether accounts of the pool hold grants, as far as anybody knows: not where the type is another one."""
        pool = self._service.snapshot.config.pools.get(pool_name)
        return pool is None or pool.type == "refresh_token"

    async def end(self, grants: Sequence[Account], *, force: bool) -> Ended:
        """End these grants of one account, each with its refresh token and its client.

        What another account lives on as well is kept, unless `force` is given. Raises RefusedError, before anything was
        asked, when nobody can tell whether one does, and ConfigurationError when the client's secret can't be had.
        """
        if not grants or not self.may_be_granted(grants[0].pool):
            return Ended()
        pool = self._service.snapshot.config.pools.get(grants[0].pool)
        if pool is None:
            return Ended(
                kept="its pool is not configured, so nobody can be asked; it stays valid until revoked at the provider"
            )
        try:
            url = pool.revoke_url or (await self._service.resolver.resolve(pool)).revoke_url
        except DiscoveryError as error:
            return Ended(trouble=str(error))
        if url is None:
            return Ended(kept=NO_ENDPOINT)
        for grant in grants:
            self._require_secret(pool, grant)
        reasons = [""] * len(grants) if force else await self._reasons_to_keep(pool, grants)
        ended = Ended()
        for grant, reason in zip(grants, reasons, strict=True):
            ended += Ended(kept=reason, shared=True) if reason else await self._revoke(pool, url, grant)
        return ended

    async def _revoke(self, pool: PoolConfig, url: str, grant: Account) -> Ended:
        request = revocation_request(pool, url, grant)
        clock = self._service.clock
        began = clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            form = request.sent_form(clock.time())
            outcome = revocation_outcome(await self._service.endpoint.post(request.url, form, request.headers))
            if isinstance(outcome, Revoked):
                return Ended(before=1) if outcome.before else Ended(revoked=1)
            pause = self._rng.uniform(0.1, 0.5) * attempt
            if not outcome.again or attempt == TRIES or clock.monotonic() + pause - began > LONGEST_SECONDS:
                return Ended(trouble=outcome.detail)
            await clock.sleep(pause)

    def _require_secret(self, pool: PoolConfig, grant: Account) -> None:
        try:
            self._holdings.require_secret(pool, grant)
        except ConfigurationError as error:
            hint = f"{error.remedy} Or remove the account with --keep-grant, which asks nobody."
            raise ConfigurationError(error.where, error.problem, hint) from None

    # --- who else lives on a grant ----------------------------------------------------------------------------

    async def _reasons_to_keep(self, pool: PoolConfig, grants: Sequence[Account]) -> list[str]:
        """For each grant: whose it is as well; empty where it is nobody's. Raises RefusedError."""
        key = grants[0].key
        others = [other for other in await self._holdings.everyone() if other.key != key]
        unread = [record for record in await self._holdings.unreadable() if record.key != key]
        reasons = [self._shared(pool, grant, others) for grant in grants]
        for record in unread:
            if self._of_another_provider(pool, record.pool):
                continue
            tokens, marks = await self._found(record)
            for number, grant in enumerate(grants):
                if _shares(grant, tokens, marks):
                    reasons[number] = _same_login(record.address)
        return reasons

    def _shared(self, pool: PoolConfig, grant: Account, others: Collection[Account]) -> str:
        """Whether another account has this login, or one of the same person: some providers end both."""
        for other in others:
            if _shares(grant, {other.token.refresh_token}, str(other.extra.get(ADDED_FROM, "")).split()):
                return _same_login(other.address)
        for other in others:
            if grant.subject is not None and other.subject == grant.subject and self._same_client(pool, grant, other):
                return (
                    f"{other.address} is a login of the same person with the same client, and some providers end both "
                    "at once; --force revokes it all the same"
                )
        return ""

    def _same_client(self, pool: PoolConfig, grant: Account, other: Account) -> bool:
        theirs = self._service.snapshot.config.pools.get(other.pool)
        if theirs is None or not other.token.refresh_token or self._of_another_provider(pool, other.pool):
            return False
        return client_name("", pool, grant) == client_name("", theirs, other)

    async def _found(self, record: BrokenAccount) -> tuple[set[str | None], list[str]]:
        """What a record that can't be read holds all the same. Raises RefusedError where nobody can tell."""
        store, trouble = self._service.store, record.reason
        if isinstance(store, SearchesUnread):
            try:
                found = await store.unread(record.key)
            except StoreError as error:
                trouble = str(error)
            else:
                trouble = next((one.trouble for one in found if one.trouble), "")
                if not trouble:
                    tokens: set[str | None] = {token for one in found for token in one.refresh_tokens}
                    return tokens, [mark for one in found for mark in one.marks]
        raise RefusedError(
            f"nothing was removed, and nothing revoked: {record.address} can't be read ({trouble}), so nobody can tell "
            f"whether it lives on the same login, which would end with this one. Mend or remove that one first; or "
            f"say --force, which revokes the login all the same, or --keep-grant, which leaves it alive"
        )

    def _of_another_provider(self, pool: PoolConfig, other: str) -> bool:
        """Whether accounts of the pool `other` surely hold no grant of this pool's provider."""
        theirs = self._service.snapshot.config.pools.get(other)
        if theirs is None:
            return False
        endpoints = [self._service.resolver.known_token_url(one) for one in (pool, theirs)]
        known = None not in endpoints
        return theirs.type != "refresh_token" or (
            known and client_name(endpoints[0] or "", pool, _NOBODY) != client_name(endpoints[1] or "", pool, _NOBODY)
        )


_NOBODY = Account(pool="", name="")


def _shares(grant: Account, tokens: Collection[str | None], marks: Collection[str]) -> bool:
    """Whether whoever holds these refresh tokens, which these others were exchanged for, lives on the grant."""
    token = grant.token.refresh_token
    return token in tokens or fingerprint(token or "") in marks


def _same_login(address: str) -> str:
    return f"{address} holds the same login, and goes on with it"
