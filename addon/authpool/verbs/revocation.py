"""Ending an account's grant at the provider, when the account is removed for good (RFC 7009)."""

from authpool.accounts.account import Account, fingerprint
from authpool.errors import AuthpoolError
from authpool.gateway.service import Service
from authpool.oauth.discovery import DiscoveryError
from authpool.oauth.grant_request import revocation_request
from authpool.oauth.verdict import Reply
from authpool.verbs.holdings import Holdings
from authpool.verbs.replacement import ADDED_FROM

_OK = 200


class RevocationError(Exception):
    """The grant lives on, or nobody can tell; the message says why."""


class Revocation:
    """Asks revocation endpoints. Whoever calls holds the account, so that nobody refreshes meanwhile."""

    def __init__(self, service: Service, holdings: Holdings) -> None:
        self._service = service
        self._holdings = holdings

    async def revoke(self, account: Account) -> bool:
        """Revoke the account's refresh token; False: there is none, or nobody to ask. Raises RevocationError."""
        pool = self._service.snapshot.config.pools.get(account.pool)
        if pool is None or pool.type != "refresh_token" or account.token.refresh_token is None:
            return False
        try:
            url = pool.revoke_url or (await self._service.resolver.resolve(pool)).revoke_url
            if url is None:
                return False
            await self._refuse_shared(account)
            request = revocation_request(pool, url, account)
        except (DiscoveryError, AuthpoolError) as error:
            raise RevocationError(str(error)) from None
        answer = await self._service.endpoint.post(request.url, request.form, request.headers)
        if not isinstance(answer, Reply):
            raise RevocationError(f"the revocation endpoint did not answer ({answer.detail})")
        if answer.status != _OK:  # that a token is not valid any more is no error (RFC 7009 §2.2)
            raise RevocationError(f"the revocation endpoint answered HTTP {answer.status}")
        return True

    async def _refuse_shared(self, account: Account) -> None:
        """To revoke a login that another account has as well would end that one, too."""
        token = account.token.refresh_token
        mark = fingerprint(token or "")
        for other in await self._holdings.everyone():
            shared = other.token.refresh_token == token or mark in str(other.extra.get(ADDED_FROM, "")).split()
            if other.key != account.key and shared:
                raise RevocationError(f"{other.address} holds the same credential, and goes on with it")
