"""The real OAuth provider of the tests: npm oidc-provider in a child process, on loopback."""

import asyncio
import json
import ssl
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import httpx

from support.node import PROVIDER_FOLDER, install_provider, node

type ClientKind = Literal["confidential", "post", "public"]
"""Which client: client_secret_basic, client_secret_post, or none (no secret)."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # spares httpx the loading of every root certificate
_STOP_SECONDS = 5.0


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


class OidcProvider:
    """npm oidc-provider 9: rotates refresh tokens, and ends the whole grant when a spent one is presented.

    Use as `async with OidcProvider() as provider`, or `start()` and `stop()`. It belongs to no event loop, so
    one can serve a whole test session. `/me` is a protected resource that wants an access token with scope
    openid.
    """

    host = "127.0.0.1"

    def __init__(self, *, access_token_seconds: int = 3600, rotate: bool = True) -> None:
        self.client_id = "authpool-tests"
        self.client_secret = "the-test-client-secret"
        self.port = 0
        self.log: list[str] = []
        self._options = {
            "accessTokenSeconds": access_token_seconds,
            "rotate": rotate,
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
        }
        self._process: subprocess.Popen[str] | None = None
        self._collecting: threading.Thread | None = None

    def start(self) -> None:
        """Start it and wait until it listens. Raises NodeMissingError, RuntimeError."""
        install_provider()
        self._process = process = subprocess.Popen(
            [node(), str(PROVIDER_FOLDER / "server.mjs"), json.dumps(self._options)],
            stdin=subprocess.PIPE,  # ends with this process, whatever happens to it, and the provider with it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in process.stdout or ():
            if line.startswith("{"):
                self.port = json.loads(line)["port"]
                self._collecting = threading.Thread(target=self._collect, args=(process,), daemon=True)
                self._collecting.start()
                return
            self.log.append(line)
        self.stop()
        raise RuntimeError(f"the OAuth provider did not start: {''.join(self.log)[-2000:]}")

    def _collect(self, process: "subprocess.Popen[str]") -> None:
        self.log.extend(process.stdout or ())

    def stop(self) -> None:
        """End it, by its process id."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._collecting is not None:
            self._collecting.join(_STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def issuer(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    @property
    def userinfo_url(self) -> str:
        return f"{self.issuer}/me"

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
