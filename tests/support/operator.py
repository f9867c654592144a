"""An operator's desk: a home, a provider that tells whose token it is, and the verbs on both."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authpool.files.atomic_file import FileOperations
from authpool.gateway.service import Service
from authpool.store.folder.store import FolderStore
from authpool.verbs.operations import Operations
from authpool.verbs.sources import Credential, parse_credential
from support.answers import JSON
from support.exchange import Answer, Request
from support.home import Document, account_path, make_home, read_account, write_account
from support.rotating_provider import RotatingProvider
from support.server import HttpServer
from support.token_endpoint import ScriptedTokenEndpoint


class Userinfo:
    """A userinfo endpoint at `url`; `claims` are told of whoever's access token it is, `answer` overrides all."""

    def __init__(self, provider: RotatingProvider) -> None:
        self.provider = provider
        self.answered: Answer | None = None
        self.claims: dict[str, Any] = {}
        self.received: list[Request] = []
        self.server = HttpServer(self)

    @property
    def url(self) -> str:
        return f"{self.server.url}/me"

    def greet(self) -> Answer | None:
        return None

    async def answer(self, request: Request) -> Answer:
        self.received.append(request)
        if self.answered is not None:
            return self.answered
        account = self.provider.account_of(request.bearer or "")
        if account is None:
            return JSON(401, {"error": "invalid_token"})
        return JSON(200, {"sub": f"id-of-{account}", "email": account, **self.claims})


@dataclass(kw_only=True)
class Desk:
    """What a test of the verbs needs at hand."""

    home: Path
    provider: RotatingProvider
    token_endpoint: ScriptedTokenEndpoint
    userinfo: Userinfo
    service: Service
    operations: Operations

    def signed_in(self, account: str) -> Credential:
        """The credential of a fresh sign-in."""
        return credential(self.provider.issue(account))

    def stored(self, address: str) -> Document:
        """What an account's file says."""
        return read_account(self.home, address)

    def write(self, address: str, **document: Any) -> Path:
        """Write an account's file by hand."""
        return write_account(self.home, address, document)

    def edit(self, address: str, **changes: Any) -> None:
        """Change some keys of an account's file by hand; None removes one."""
        document = {**self.stored(address), **changes}
        write_account(self.home, address, {key: value for key, value in document.items() if value is not None})

    def file_of(self, address: str) -> Path:
        return account_path(self.home, address)

    @property
    def posts(self) -> list[str]:
        """The refresh tokens presented so far."""
        return [post.form.get("refresh_token", "") for post in self.token_endpoint.received]

    @property
    def unclaimed(self) -> list[Path]:
        """The files of tokens that are in no account."""
        return sorted((self.home / "unclaimed").glob("*.json"))


def credential(document: Mapping[str, Any]) -> Credential:
    """A credential as a source with this JSON gives it."""
    return parse_credential(json.dumps(document), "the test")


@asynccontextmanager
async def open_desk(
    folder: Path,
    *,
    provider: RotatingProvider | None = None,
    userinfo: bool = True,
    running: bool = False,
    patience_seconds: float = 10.0,
    files: FileOperations | None = None,
    plugin: str = "",
    more_pools: Sequence[str] = (),
    revoke_url: str | None = None,
    sign_in: Mapping[str, Any] | None = None,
) -> AsyncIterator[Desk]:
    """A home whose pool `google` is at a real token endpoint, and one of each other type beside it.

    `running`: within a gateway that serves the pools, rather than from the command line. `files` are the system
    calls of the store, `plugin` the text of a plugin in the home; `more_pools` are like `google`; `sign_in` are keys
    that a pool has to which people sign in.
    """
    provider = provider or RotatingProvider()
    async with ScriptedTokenEndpoint(provider) as endpoint, _served(Userinfo(provider)) as told:
        client = {"client_id": "the-client", "client_secret": "the-client-secret", "token_url": endpoint.url}
        google = {**client, "hosts": ["google.example"], **({"userinfo_url": told.url} if userinfo else {})}
        google |= {"revoke_url": revoke_url} if revoke_url is not None else {}
        google |= {"authorize_url": f"{endpoint.server.url}/authorize"} | dict(sign_in) if sign_in is not None else {}
        home = make_home(
            folder,
            pools={
                "google": google,
                **{name: google | {"hosts": [f"{name}.example"]} for name in more_pools},
                "service": {**client, "type": "client_credentials", "hosts": ["service.example"]},
                "keys": {"type": "static", "hosts": ["keys.example"]},
            },
        )
        if plugin:
            (home / "plugins" / "of_the_test.py").write_text(plugin)
        service = Service(home, {}, store=FolderStore(home / "accounts", files=files))
        if running:
            await service.start()
        try:
            yield Desk(
                home=home,
                provider=provider,
                token_endpoint=endpoint,
                userinfo=told,
                service=service,
                operations=Operations(service, patience_seconds=patience_seconds),
            )
        finally:
            await service.stop()


@asynccontextmanager
async def _served(userinfo: Userinfo) -> AsyncIterator[Userinfo]:
    async with userinfo.server:
        yield userinfo


@asynccontextmanager
async def process(desk: Desk, *, running: bool = False) -> AsyncIterator[Operations]:
    """Another process on the same home: a gateway, or (not `running`) the command line."""
    service = Service(desk.home, {}, process="gateway" if running else "command line")
    if running:
        await service.start()
    try:
        yield Operations(service, patience_seconds=10)
    finally:
        await service.stop()
