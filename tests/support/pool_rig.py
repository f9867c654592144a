"""A gateway with all that is around it: a provider, its token endpoint, an API behind, a home; the parts are real."""

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from authpool.proxy import wire
from authpool.proxy.addon import Gateway
from support.gateway import RunningGateway, dump_master
from support.home import make_home, read_account, token_table, write_account
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

CLIENT_SECRET = "client-secret-of-the-pool"


@dataclass(slots=True, kw_only=True)
class Rig:
    """One pool `p` for `upstream`; accounts are signed in at `provider`, and their tokens are accepted there."""

    folder: Path
    provider: RotatingProvider
    endpoint: ScriptedTokenEndpoint
    upstream: Upstream
    host: str = ""
    secrets: list[str] = field(default_factory=list, repr=False)
    """Every access and refresh token written into an account file by `home`."""
    path: Path = Path()

    def pool(self, **more: Any) -> dict[str, Any]:
        """Give the table of the pool, with more keys or other values."""
        table = {
            "token_url": self.endpoint.url,
            "client_id": "gateway",
            "client_secret": CLIENT_SECRET,
            "hosts": [self.host or self.upstream.authority],
        }
        return {key: value for key, value in (table | more).items() if value is not None}

    def token(self, name: str, *, expires_in: float | None = None) -> dict[str, Any]:
        """Sign `name` in and give the `[token]` table; `expires_in` may say that it is over (negative)."""
        response = self.provider.issue(name)
        self.secrets += [response["access_token"], response["refresh_token"]]
        if expires_in is not None:
            response = response | {"expires_in": expires_in}
        return token_table(response)

    def home(
        self,
        *names: str,
        pools: Mapping[str, Mapping[str, Any]] | None = None,
        gateway: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        **pool: Any,
    ) -> Path:
        """Write a home with these accounts in pool `p`, signed in."""
        self.upstream.accept(self.provider)
        self.path = make_home(
            self.folder,
            pools={"p": self.pool(**pool), **(pools or {})},
            accounts={f"p/{name}": {"token": self.token(name, expires_in=expires_in)} for name in names},
            gateway=gateway,
        )
        return self.path

    def account(self, name: str) -> dict[str, Any]:
        """Give what the account's file says now."""
        return read_account(self.path, f"p/{name}")

    def write(self, account: str, /, **document: Any) -> None:
        """Write an account's file, as an operator would."""
        write_account(self.path, f"p/{account}", document)

    @property
    def posts(self) -> int:
        """How many requests the token endpoint has seen."""
        return len(self.endpoint.received)

    @property
    def bearers(self) -> list[str | None]:
        """The access token of each request the upstream received, in order."""
        return [request.bearer for request in self.upstream.received]

    @property
    def owners(self) -> list[str]:
        """Whose access token each request carried, by the name in it; dead tokens too."""
        return [(bearer or "-").rpartition("-of-")[2] for bearer in self.bearers]


@asynccontextmanager
async def gateway_master(
    home: Path, *addons: object, before: Sequence[object] = (), gateway: Gateway | None = None, **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Run the addon in a DumpMaster, other addons after it (or `before` it); leaves mitmproxy as it was."""
    try:
        async with dump_master(*before, gateway or Gateway(), *addons, home=home, **settings) as running:
            yield running
    finally:
        wire.uninstall()


@asynccontextmanager
async def reverse_gateway(rig: Rig, *addons: object, **settings: Any) -> AsyncIterator[RunningGateway]:
    """Run the gateway in front of the rig's upstream (reverse mode: the client needs no CA)."""
    mode = f"reverse:{rig.upstream.url}"
    async with gateway_master(rig.path, *addons, mode=mode, **settings) as running:
        yield running


def client(url: str, **more: Any) -> httpx.AsyncClient:
    """Make an HTTP client for the gateway in reverse mode; several connections, no proxies of the environment."""
    # Without TLS there is nothing to verify; loading all the world's CAs takes longer than most tests.
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=20, **{"verify": False} | more)


def proxied(running_url: str, confdir: Path, *, ca: str = "mitmproxy-ca-cert.pem", **more: Any) -> httpx.AsyncClient:
    """Make an HTTP client that uses the gateway as its proxy and trusts mitmproxy's own CA."""
    verify = ssl.create_default_context(cafile=str(confdir / ca))
    return httpx.AsyncClient(proxy=running_url, verify=verify, trust_env=False, timeout=20, **more)
