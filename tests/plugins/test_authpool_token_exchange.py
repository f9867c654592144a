"""Token exchange (RFC 8693): against a grant type of oidc-provider, scripted refusals, and through a gateway."""

import asyncio
import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authpool.accounts.account import Account
from authpool.config import HostPattern, PoolConfig
from authpool.config.client_key import ClientKey
from authpool.config.client_secret import SecretSource
from authpool.errors import ConfigurationError, CredentialMisconfiguredError, CredentialUnavailableError
from authpool.oauth.client_assertion import ClientAssertion
from authpool.plugins.manager import Plugins
from authpool.refresh.token_source import TokenSource
from authpool.testing.token_sources import TokenSourceConformance
from support.answers import JSON
from support.home import make_home, read_account
from support.node import NodeMissingError
from support.pool_rig import client, gateway_master
from support.provider import OidcProvider
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

ALICE = Account(pool="p", name="alice")
KEY = ec.generate_private_key(ec.SECP256R1())
JWT = "urn:ietf:params:oauth:token-type:jwt"


def platform_token(subject: str) -> str:
    """A JWT as a platform signs one for a workload."""
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    source = SecretSource(source="env:KEY", path=("x",), home=Path("/"), environ={"KEY": pem})
    assertion = ClientAssertion(client_id=subject, audience="sts", key=ClientKey(source=source))
    return assertion.fresh(time.time())["client_assertion"]


def public_key() -> dict[str, str]:
    numbers = KEY.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32)).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def source(**options: Any) -> TokenSource:
    pool = PoolConfig(name="p", type="token_exchange", type_options=options, hosts=(HostPattern.parse("api.example"),))
    made = Plugins().token_source(pool)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def sts() -> Iterator[OidcProvider]:
    provider = OidcProvider(exchange_key=public_key())
    try:
        provider.start()
    except NodeMissingError as error:
        pytest.skip(str(error))
    yield provider
    provider.stop()


def at_sts(provider: OidcProvider, **more: Any) -> dict[str, Any]:
    own = {"token_url": provider.token_url, "client_id": provider.client_id, "client_secret": "env:STS_SECRET"}
    return {**own, **more}


@pytest.mark.node
async def test_a_provider_exchanges_what_is_in_the_file_now(
    tmp_path: Path, sts: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read each time; parameters arrive, those with several values several times."""
    monkeypatch.setenv("STS_SECRET", sts.client_secret)
    path = tmp_path / "token"
    made = source(
        **at_sts(sts, subject_token=f"file:{path}", audience=["a", "b"], resource="urn:r", requested_token_type=JWT)
    )
    for subject in ("first", "second"):
        path.write_text(platform_token(subject) + "\n")
        fetched = await made.fetch(ALICE)
        assert fetched.expires_at is not None
        assert 3500 < fetched.expires_at - time.time() < 3601
        assert fetched.access_token not in repr(made)
    stats = await sts._admin("GET", "stats", None)
    told = stats["exchanges"][-1]
    assert [one["subject"] for one in stats["exchanges"][-2:]] == ["first", "second"]
    assert (told["audience"], told["resource"], told["subject_token_type"]) == (["a", "b"], "urn:r", JWT)


@pytest.mark.node
async def test_a_provider_refuses_in_two_ways(
    tmp_path: Path, sts: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad subject token will be replaced: try again. A wrong audience or client is the pool's fault."""
    monkeypatch.setenv("STS_SECRET", sts.client_secret)
    path = tmp_path / "token"
    path.write_text("not.a.jwt")
    with pytest.raises(CredentialUnavailableError, match="refuses the token that it was given: invalid_request"):
        await source(**at_sts(sts, subject_token=f"file:{path}")).fetch(ALICE)
    path.write_text(platform_token("x"))
    with pytest.raises(CredentialMisconfiguredError, match="invalid_target"):
        await source(**at_sts(sts, subject_token=f"file:{path}", audience="nobody")).fetch(ALICE)
    monkeypatch.setenv("STS_SECRET", "another")
    with pytest.raises(CredentialMisconfiguredError, match="refuses the exchange: invalid_client"):
        await source(**at_sts(sts, subject_token=f"file:{path}")).fetch(ALICE)


async def test_a_program_may_print_the_subject_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CI services need it; an actor's token stands beside it, and a public client names itself."""
    monkeypatch.setenv("ACTOR", "the-actor-token")
    printing = {"argv": ["echo", "printed-token"]}
    async with ScriptedTokenEndpoint((JSON(200, {"access_token": "t", "token_type": "N_A"}),)) as at:
        made = source(
            token_url=at.url, subject_token=printing, subject_token_type="id_token", actor_token="env:ACTOR",
            client_id="me", scope="a b",
        )  # fmt: skip
        fetched = await made.fetch(ALICE)
        form = dict(parse_qsl(at.received[0].request.body.decode()))
    assert (fetched.access_token, fetched.expires_at, fetched.token_type) == ("t", None, "Bearer")
    assert form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "printed-token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "actor_token": "the-actor-token",
        "actor_token_type": JWT,
        "client_id": "me",
        "scope": "a b",
    }


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    (
        (503, {}, CredentialUnavailableError),
        (400, {"error": "invalid_grant"}, CredentialUnavailableError),
        (400, {"error": "unsupported_grant_type"}, CredentialMisconfiguredError),
        (200, {"no": "token"}, CredentialUnavailableError),
        (400, {"error": "invalid_request", "error_description": "subject-token-value is over"}, None),
    ),
)
async def test_refusals_tell_no_token(tmp_path: Path, status: int, body: dict[str, str], kind: Any) -> None:
    """And disable nobody: the platform gives out another token."""
    path = tmp_path / "token"
    path.write_text("subject-token-value")
    async with ScriptedTokenEndpoint((JSON(status, body),)) as at:
        with pytest.raises(kind or CredentialUnavailableError) as caught:
            await source(token_url=at.url, subject_token=f"file:{path}").fetch(ALICE)
    assert "subject-token-value" not in str(caught.value)


@pytest.mark.parametrize("content", (None, b"", b"two words", b"\xff\xfe", b"x" * 65_537))
async def test_a_file_without_a_token_sends_nothing(tmp_path: Path, content: bytes | None) -> None:
    """It is tried again, and the file is named."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    async with ScriptedTokenEndpoint(()) as at:
        with pytest.raises(CredentialUnavailableError, match=str(path)):
            await source(token_url=at.url, subject_token=f"file:{path}").fetch(ALICE)
        assert at.received == []


async def test_a_pipe_in_the_place_of_the_file_holds_nobody_up(tmp_path: Path) -> None:
    """A thread that waits for its writer would be there until the gateway is killed."""
    os.mkfifo(tmp_path / "token")
    made = source(token_url="https://sts.example/t", subject_token=f"file:{tmp_path}/token")
    fetching = asyncio.ensure_future(made.fetch(ALICE))
    done, _ = await asyncio.wait({fetching}, timeout=10)
    if not done:  # let the thread go, or it would hold up the tests' end
        os.close(os.open(tmp_path / "token", os.O_WRONLY))
    with pytest.raises(CredentialUnavailableError, match="holds no token"):
        await fetching
    assert done


@pytest.mark.parametrize(
    ("options", "words"),
    (
        ({"subject_token": "file:/t"}, r"type\.token_url: is missing"),
        ({"token_url": "http://sts.example/t", "subject_token": "file:/t"}, r"type\.token_url: is http"),
        ({"token_url": "https://sts.example/t"}, r"type\.subject_token: is missing"),
        ({"token_url": "https://sts.example/t", "subject_token": "ey.the.token"}, "does not say where the token is"),
        ({"token_url": "https://sts.example/t", "subject_token": "file:relative"}, "does not say where the token is"),
        ({"token_url": "https://sts.example/t", "subject_token": {}}, "argv: is missing or empty"),
        ({"token_url": "https://sts.example/t", "subject_token": "env:T", "client_secret": "env:S"}, "client_id"),
        (
            {"token_url": "https://sts.example/t", "subject_token": "env:T", "client_id": "i", "client_secret": "s"},
            r"type\.client_secret: does not say where it is",
        ),
        ({"token_url": "https://sts.example/t", "subject_token": "env:T", "x": 1}, r"type\.x: there is no such key"),
    ),
)
def test_mistakes_in_the_options_are_told(options: dict[str, Any], words: str) -> None:
    """With file, key and remedy."""
    with pytest.raises(ConfigurationError, match=words):
        source(**options)


@pytest.mark.mitmproxy
async def test_a_request_gets_what_was_exchanged(tmp_path: Path, upstream: Upstream) -> None:
    """A 401 of the upstream brings another exchange, with what the file holds by then."""
    path = tmp_path / "subject"
    path.write_text("subject-1")
    answers = [JSON(200, {"access_token": f"exchanged-{number}", "expires_in": 3600}) for number in (1, 2)]
    async with ScriptedTokenEndpoint(answers) as at:
        kind = {"name": "token_exchange", "token_url": at.url, "subject_token": f"file:{path}"}
        home = make_home(
            tmp_path, pools={"p": {"type": kind, "hosts": [upstream.authority]}}, accounts={"p/alice": {"token": {}}}
        )
        upstream.accept(accepted := {"exchanged-1"})
        async with gateway_master(home, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            assert (await api.get("/x")).status_code == 200
            accepted.clear()
            accepted.add("exchanged-2")
            path.write_text("subject-2")
            assert (await api.get("/x")).status_code == 200
            log = "\n".join(gateway.messages)
        sent = [dict(parse_qsl(one.request.body.decode()))["subject_token"] for one in at.received]
    assert sent == ["subject-1", "subject-2"]
    assert read_account(home, "p/alice")["token"]["access_token"] == "exchanged-2"
    assert "subject-" not in log
    assert "exchanged-" not in log


class TestConformance(TokenSourceConformance):
    """The plugin holds to what every token source must."""

    @pytest.fixture
    async def source(self, tmp_path: Path) -> Any:
        path = tmp_path / "token"
        path.write_text("subject")
        answers = [JSON(200, {"access_token": f"token-{n}", "expires_in": 60}) for n in range(40)]
        async with ScriptedTokenEndpoint(answers) as at:
            yield source(token_url=at.url, subject_token=f"file:{path}")

    @pytest.fixture
    def failing_source(self, tmp_path: Path) -> TokenSource:
        return source(token_url="https://sts.example/t", subject_token=f"file:{tmp_path}/nothing")
