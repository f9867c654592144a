"""Installation tokens, against an API of our own that checks the App's signature; GitHub itself is not asked."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authpool.accounts.account import Account
from authpool.config import PoolConfig
from authpool.errors import (
    ConfigurationError,
    CredentialDeadError,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    TokenSourceError,
)
from authpool_github_app import GithubApp, authpool_token_source
from support.answers import send
from support.command_line import authpool_on
from support.exchange import Reply, Request
from support.home import make_home
from support.pool_rig import client, gateway_master
from support.upstream import Upstream

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOW = 1_800_000_000


class Says:
    def __init__(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        self.status, self.document, self.headers = status, document, headers or {}

    async def play(self, reply: Reply) -> None:
        headers = {"content-type": "application/json", **self.headers}
        await send(reply, self.status, headers, json.dumps(self.document).encode())


def granted() -> Says:
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + 3600))
    return Says(201, {"token": "ghs_one", "expires_at": ends})


@pytest.fixture
async def github() -> Any:
    async with Upstream() as upstream:
        yield upstream


def app(github: Upstream, **more: Any) -> GithubApp:
    return GithubApp(app_id="77", key=KEY, api_url=github.url, clock=lambda: NOW, **more)


def account(name: str = "4711") -> Account:
    return Account(pool="git", name=name)


def _part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims(request: Request) -> dict[str, Any]:
    """The claims of the request's JWT; raises InvalidSignature."""
    signed, _, signature = (request.bearer or "").rpartition(".")
    KEY.public_key().verify(_part(signature), signed.encode(), PKCS1v15(), SHA256())
    head, _, body = signed.partition(".")
    assert json.loads(_part(head)) == {"alg": "RS256", "typ": "JWT"}
    return dict(json.loads(_part(body)))


async def test_an_installation_gets_a_token(github: Upstream) -> None:
    """By a JWT that is signed, back-dated, and good for less than ten minutes."""
    github.then(granted())
    narrowed = {"permissions": {"contents": "read"}, "repositories": ["one"]}
    fetched = await app(github, narrowed=narrowed).fetch(account())
    (request,) = github.received
    assert (fetched.access_token, fetched.expires_at) == ("ghs_one", NOW + 3600)
    assert (request.method, request.path) == ("POST", "/app/installations/4711/access_tokens")
    assert claims(request) == {"iat": NOW - 60, "exp": NOW + 540, "iss": "77"}
    assert (json.loads(request.body), request.header("content-type")) == (narrowed, "application/json")


async def test_an_owner_is_looked_up(github: Upstream) -> None:
    """An organization first, then a user."""
    github.then(Says(404, {"message": "Not Found"}), Says(200, {"id": 12}), granted())
    await app(github).fetch(account("octo"))
    paths = [request.path for request in github.received]
    assert paths == ["/orgs/octo/installation", "/users/octo/installation", "/app/installations/12/access_tokens"]


@pytest.mark.parametrize(
    ("status", "message", "headers", "error", "wait"),
    (
        (403, "This installation has been suspended", {}, CredentialUnavailableError, 300),
        (404, "Not Found", {}, CredentialUnavailableError, 300),
        (404, "Integration not found", {}, CredentialMisconfiguredError, None),
        (401, "A JSON web token could not be decoded", {}, CredentialMisconfiguredError, None),
        (403, "You have exceeded a secondary rate limit", {"retry-after": "7"}, CredentialUnavailableError, 7),
        (403, "API rate limit exceeded", {}, CredentialUnavailableError, 60),
        (403, "Resource not accessible", {}, CredentialUnavailableError, None),
        (422, "The permissions requested are not granted", {}, CredentialUnavailableError, None),
        (502, "", {}, CredentialUnavailableError, None),
    ),
)
async def test_refusals_are_told_apart(
    github: Upstream, status: int, message: str, headers: dict[str, str], error: type, wait: float | None
) -> None:
    """A suspended or deleted installation waits and disables nobody; a wrong key is the pool's fault."""
    github.then(Says(status, {"message": message}, headers))
    with pytest.raises(TokenSourceError) as raised:
        await app(github).fetch(account())
    assert type(raised.value) is error
    assert getattr(raised.value, "retry_after_seconds", None) == wait


async def test_a_name_never_becomes_another_path(github: Upstream) -> None:
    """What is no login is not asked for."""
    with pytest.raises(CredentialDeadError):
        await app(github).fetch(account("a@b"))
    assert not github.received


def test_the_key_is_read_from_the_home(tmp_path: Path) -> None:
    """And what is no RSA key is refused without being quoted."""
    pem = tmp_path / "app.pem"
    pem.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    pem.chmod(0o600)
    pool = PoolConfig(name="git", hosts=(), home=tmp_path, type_options={"app_id": "77", "private_key": "file:app.pem"})
    factory = authpool_token_source("github_app")
    assert factory is not None
    assert isinstance(factory(pool), GithubApp)
    pem.write_text("no-such-key")
    with pytest.raises(ConfigurationError, match="is no RSA key") as raised:
        factory(pool)
    assert "no-such-key" not in str(raised.value)


@pytest.mark.mitmproxy
async def test_git_s_requests_have_the_installation_s_token(tmp_path: Path, github: Upstream) -> None:
    """From authpool.toml through `authpool add` to the wire: HTTP Basic with the user that GitHub wants."""
    github.respond = lambda request: Says(201, {"token": "ghs_git", "expires_at": "2038-01-01T00:00:00Z"})
    async with Upstream() as git:
        app_of_it = {"name": "github_app", "app_id": "77", "private_key": "file:app.pem", "api_url": github.url}
        pool = {"type": app_of_it, "hosts": [git.authority], "inject": {"basic": "x-access-token:{token}"}}
        home = make_home(tmp_path, pools={"github": pool})
        key = home / "app.pem"
        key.touch(mode=0o600)
        key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        added = await authpool_on(home, "add", "github", "none", "4711")
        assert (added.status, added.out) == (0, "Added github/4711\n"), added.err
        async with gateway_master(home, mode=f"reverse:{git.url}") as gateway, client(gateway.url) as http:
            answer = await http.get("/owner/one.git/info/refs")
        assert answer.status_code == 200
        assert (
            git.received[-1].header("authorization") == f"Basic {base64.b64encode(b'x-access-token:ghs_git').decode()}"
        )
    assert {request.path for request in github.received} == {"/app/installations/4711/access_tokens"}
    for request in github.received:
        claims(request)
