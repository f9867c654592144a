"""The real OAuth provider of the tests: npm oidc-provider in a child process, on loopback."""

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from support.node import PROVIDER_FOLDER, install_provider, node
from support.provider_process import ProviderProcess

type ClientKind = Literal["confidential", "post", "public"]
"""Which client: client_secret_basic, client_secret_post, or none (no secret)."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # spares httpx the loading of every root certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One request that the token endpoint answered; `account` is None when nobody can tell."""

    account: str | None
    client: str | None
    grant_type: str | None
    ok: bool
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStats:
    """What the provider was asked since it started."""

    token_requests: list[TokenRequest] = field(default_factory=list)
    me_requests: int = 0
    me_success: Mapping[str, int] = field(default_factory=dict)
    """How often the protected resource was read with a good token, by account."""

    def refreshes(self, account: str) -> list[TokenRequest]:
        """The refreshes of one account, first to last."""
        return [r for r in self.token_requests if (r.account, r.grant_type) == (account, "refresh_token")]


class OidcProvider(ProviderProcess):
    """npm oidc-provider 9: rotates refresh tokens, and ends the whole grant when a spent one is presented.

    `start` raises NodeMissingError where there is no Node.js. `/me` is a protected resource that wants an access
    token with scope openid.
    """

    def __init__(
        self,
        *,
        access_token_seconds: int = 3600,
        rotate: bool = True,
        pages: bool = False,
        signing_clients: Sequence[dict[str, Any]] = (),
        exchange_key: dict[str, str] | None = None,
    ) -> None:
        """`pages`: people can sign in with a browser, by any name and any password."""
        super().__init__()
        self.client_id = "authpool-tests"
        self.client_secret = "the-test-client-secret"
        self._options = {
            "accessTokenSeconds": access_token_seconds,
            "rotate": rotate,
            "pages": pages,
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
            "signingClients": list(signing_clients),
            "exchangeKey": exchange_key,
        }

    def command(self) -> Sequence[str]:
        install_provider()
        return [node(), str(PROVIDER_FOLDER / "server.mjs"), json.dumps(self._options)]

    @property
    def revoke_url(self) -> str:
        return f"{self.issuer}/token/revocation"

    @property
    def introspection_url(self) -> str:
        return f"{self.issuer}/token/introspection"

    def client_name(self, kind: ClientKind) -> str:
        """The client_id of that kind of client; those with a secret share `client_secret`."""
        return self.client_id if kind == "confidential" else f"{self.client_id}-{kind}"

    def pool(self, kind: ClientKind = "confidential") -> dict[str, Any]:
        """A `[pools.X]` table for accounts of this provider and its own `/me` as the upstream."""
        methods = {"confidential": "client_secret_basic", "post": "client_secret_post", "public": "none"}
        secret = {} if kind == "public" else {"client_secret": self.client_secret}
        return {
            "token_url": self.token_url,
            "userinfo_url": self.userinfo_url,
            "revoke_url": self.revoke_url,
            "client_id": self.client_name(kind),
            **secret,
            "client_auth": methods[kind],
            "scopes": ["openid", "email"],
            "hosts": [f"{self.host}:{self.port}"],
        }

    async def grant(
        self, account: str, *, client: ClientKind = "confidential", access_token_seconds: int | None = None
    ) -> dict[str, Any]:
        """Sign `account` in, without a browser; answers a token response (RFC 6749 §5.1)."""
        body = {
            "account": account,
            "client": self.client_name(client),
            "accessTokenSeconds": access_token_seconds,
        }
        return await self._admin("POST", "grant", body)

    async def revoke(self, account: str) -> None:
        """End every grant of the account: refreshes answer invalid_grant, access tokens 401."""
        await self._admin("POST", "revoke", {"account": account})

    async def expire(self, account: str) -> None:
        """Make the account's access tokens worthless; its refresh tokens go on working."""
        await self._admin("POST", "expire", {"account": account})

    async def stats(self) -> ProviderStats:
        """Tell what the provider was asked so far."""
        answer = await self._admin("GET", "stats", None)
        requests = [
            TokenRequest(
                account=entry.get("account"),
                client=entry.get("client"),
                grant_type=entry.get("grant_type"),
                ok=entry["ok"],
                error=entry.get("error"),
            )
            for entry in answer["token_requests"]
        ]
        return ProviderStats(
            token_requests=requests, me_requests=answer["me_requests"], me_success=answer["me_success"]
        )

    async def _admin(self, method: str, action: str, body: object) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False, verify=_NO_TLS) as http:
            response = await http.request(method, f"{self.issuer}/admin/{action}", json=body)
        answer: dict[str, Any] = response.json()
        if response.status_code != 200:
            raise RuntimeError(f"the test provider could not {action}: {answer}")
        return answer
