"""Signed client assertions: against oidc-provider for each algorithm, and what is in them."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from authpool.accounts.account import Account, OAuthClient, Token
from authpool.clock import SystemClock
from authpool.config import PoolConfig, load_config
from authpool.errors import ConfigurationError
from authpool.oauth.client_assertion import ASSERTION_TYPE, LIFETIME_SECONDS, SKEW_SECONDS
from authpool.oauth.grant_request import grant_request, revocation_request
from authpool.oauth.token_client import TokenClient
from authpool.oauth.token_requests import TokenRequests
from authpool.oauth.verdict import Granted, Reply, TryLater
from support.answers import JSON, Reset
from support.node import NodeMissingError
from support.provider import OidcProvider
from support.token_endpoint import ScriptedTokenEndpoint

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {"RS256": RSA_KEY, "PS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
NOW = 1_700_000_000.0


def b64(value: bytes | int) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big") if isinstance(value, int) else value
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_jwk(key: Any) -> dict[str, str]:
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": b64(numbers.n), "e": b64(numbers.e)}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = public.public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}


def private_jwk(key: Any, **more: str) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        d = b64(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
    elif isinstance(key, rsa.RSAPrivateKey):
        d = b64(key.private_numbers().d)
    else:
        d = b64(key.private_numbers().private_value)
    return json.dumps({**public_jwk(key), "d": d, **more})


def pem(key: Any, password: bytes | None = None) -> str:
    sealing = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing).decode()  # type: ignore[no-any-return]


def write_key(home: Path, text: str) -> Path:
    path = home / "client.key"
    aside = home / "client.key.new"
    aside.write_text(text)
    aside.chmod(0o600)
    aside.rename(path)
    return path


def read(home: Path, **settings: Any) -> PoolConfig:
    home.chmod(0o700)
    common = {"client_id": "me", "hosts": ["api.example"], "token_url": "https://provider.test/token", **settings}
    lines = [f"{key} = {json.dumps(value)}" for key, value in common.items() if value is not None]
    (home / "authpool.toml").write_text("[pools.p]\n" + "\n".join(lines) + "\n")
    (home / "authpool.toml").chmod(0o600)
    return load_config(home, {"KEY": pem(EC_KEY), "SECRET": "s" * 40}).pools["p"]


def account(refresh_token: str = "r") -> Account:
    return Account(pool="p", name="alice", token=Token(refresh_token=refresh_token))


def decoded(assertion: object) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = (part + "=" * (-len(part) % 4) for part in str(assertion).split("."))
    return json.loads(base64.urlsafe_b64decode(header)), json.loads(base64.urlsafe_b64decode(claims))


def sent(pool: PoolConfig, subject: Account | None = None) -> dict[str, Any]:
    url = pool.token_url or ""
    return grant_request(pool, url, subject or account()).sent_form(NOW)


# --- a real provider ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signing_provider() -> Any:
    clients = [{"id": name, "alg": name, "jwk": {**public_jwk(key), "kid": name}} for name, key in KEYS.items()]
    provider = OidcProvider(signing_clients=[*clients, {"id": "HS256", "alg": "HS256"}])
    try:
        provider.start()
    except NodeMissingError as error:
        pytest.skip(str(error))
    yield provider
    provider.stop()


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenClient]:
    client = TokenClient()
    yield client
    await client.aclose()


@pytest.mark.node
@pytest.mark.parametrize("form", (pem, private_jwk))
@pytest.mark.parametrize("algorithm", ("RS256", "PS256", "ES256", "EdDSA", "HS256"))
async def test_oidc_provider_accepts_it(
    tmp_path: Path, signing_provider: OidcProvider, endpoint: TokenClient, algorithm: str, form: Callable[[Any], str]
) -> None:
    """For client credentials, a refresh and a revocation; a second use of one assertion is refused by the provider."""
    common = {"client_id": algorithm, "token_url": signing_provider.token_url}
    if algorithm == "HS256":
        common |= {"client_secret": signing_provider.client_secret, "client_auth": "client_secret_jwt"}
    else:
        write_key(tmp_path, form(KEYS[algorithm]))
        common |= {"client_key": "file:client.key", "client_key_id": algorithm, "client_key_alg": algorithm}
    service = grant_request(read(tmp_path, type="client_credentials", **common), signing_provider.token_url, account())
    once = service.sent_form(SystemClock().time())
    for form_sent, status in ((once, 200), (once, 401), (service.sent_form(SystemClock().time()), 200)):
        answer = await endpoint.post(service.url, form_sent, {})
        assert isinstance(answer, Reply)
        assert answer.status == status, answer.body
    pool = read(tmp_path, **common)
    granted = await signing_provider._admin("POST", "grant", {"account": "alice", "client": algorithm})
    asked = account(granted["refresh_token"])
    refresh = grant_request(pool, signing_provider.token_url, asked)
    answer = await endpoint.post(refresh.url, refresh.sent_form(SystemClock().time()), {})
    assert isinstance(answer, Reply)
    assert answer.status == 200, answer.body
    rotated = account(json.loads(answer.body)["refresh_token"])
    revocation = revocation_request(pool, signing_provider.revoke_url, rotated)
    answer = await endpoint.post(revocation.url, revocation.sent_form(SystemClock().time()), {})
    assert isinstance(answer, Reply)
    assert answer.status == 200, answer.body


# --- what is in it ------------------------------------------------------------------------------------------------


def test_claims_and_header(tmp_path: Path) -> None:
    """Short-lived, dated back for a slow clock, for the token endpoint, with a `jti` of its own and the key's `kid`."""
    write_key(tmp_path, private_jwk(EC_KEY, kid="from-jwk"))
    pool = read(tmp_path, client_key="file:client.key")
    first, second = sent(pool), sent(pool)
    assert (first["client_id"], first["client_assertion_type"]) == ("me", ASSERTION_TYPE)
    header, claims = decoded(first["client_assertion"])
    assert header == {"alg": "ES256", "typ": "JWT", "kid": "from-jwk"}
    assert claims.pop("jti") != decoded(second["client_assertion"])[1]["jti"]
    issued = int(NOW) - SKEW_SECONDS
    expected = {"iss": "me", "sub": "me", "aud": "https://provider.test/token"}
    assert claims == {**expected, "iat": issued, "nbf": issued, "exp": int(NOW) + LIFETIME_SECONDS}
    assert "client_secret" not in first


def test_the_audience_and_the_key_id_can_be_said(tmp_path: Path) -> None:
    """And a key may come from the environment."""
    pool = read(tmp_path, client_key="env:KEY", client_key_id="mine", client_assertion_audience="https://issuer.test")
    header, claims = decoded(sent(pool)["client_assertion"])
    assert (header["kid"], claims["aud"]) == ("mine", "https://issuer.test")
    revocation = revocation_request(pool, "https://provider.test/revoke", account()).sent_form(NOW)
    assert decoded(revocation["client_assertion"])[1]["aud"] == "https://issuer.test"


@pytest.mark.parametrize(
    ("settings", "audience"),
    (
        ({}, "https://provider.test/token"),
        ({"token_url": None, "issuer": "https://issuer.test"}, "https://issuer.test"),
    ),
)
def test_a_revocation_is_signed_for_the_token_endpoint(tmp_path: Path, settings: dict[str, Any], audience: str) -> None:
    """Or for the issuer, where that is what is known."""
    pool = read(tmp_path, client_key="env:KEY", **settings)
    sent_form = revocation_request(pool, "https://provider.test/revoke", account()).sent_form(NOW)
    assert decoded(sent_form["client_assertion"])[1]["aud"] == audience


def test_a_key_that_is_exchanged_counts_at_once(tmp_path: Path) -> None:
    """The file is read for each assertion."""
    write_key(tmp_path, pem(EC_KEY))
    pool = read(tmp_path, client_key="file:client.key")
    request = grant_request(pool, "https://provider.test/token", account())
    algorithms = []
    for key in (EC_KEY, ED_KEY, RSA_KEY):
        write_key(tmp_path, pem(key))
        algorithms.append(decoded(request.sent_form(NOW)["client_assertion"])[0]["alg"])
    assert algorithms == ["ES256", "EdDSA", "RS256"]


def test_an_accounts_own_client_does_not_use_the_pools_key(tmp_path: Path) -> None:
    """A secret of its own is sent; a public client's grant is presented as one; a service identity signs."""
    settings = {"client_key": "env:KEY"}
    own = Account(
        pool="p", name="a", token=Token(refresh_token="r"), client=OAuthClient(client_id="o", client_secret="x")
    )
    public = Account(pool="p", name="a", token=Token(refresh_token="r"), client=OAuthClient(client_id="o"))
    assert sent(read(tmp_path, **settings), own)["client_secret"] == "x"
    assert "client_assertion" not in sent(read(tmp_path, **settings), own)
    assert sent(read(tmp_path, **settings), public) == {
        "grant_type": "refresh_token", "refresh_token": "r", "client_id": "o"
    }  # fmt: skip
    service = sent(read(tmp_path, type="client_credentials", **settings), public)
    assert decoded(service["client_assertion"])[1]["sub"] == "o"


async def ask(pool: PoolConfig, url: str, endpoint: TokenClient) -> object:
    class Rng:
        def uniform(self, low: float, high: float) -> float:
            return 0.0

    requests = TokenRequests(endpoint, SystemClock(), Rng(), lambda *_: None)  # type: ignore[arg-type]
    return (await requests.ask(grant_request(pool, url, account()), pool))[0]


async def test_a_retry_has_an_assertion_of_its_own(tmp_path: Path, endpoint: TokenClient) -> None:
    """After a lost answer the provider may know the first one."""
    granted = JSON(200, {"access_token": "t"})
    async with ScriptedTokenEndpoint((Reset(), granted)) as at:
        pool = read(tmp_path, client_key="env:KEY", token_url=at.url)
        assert isinstance(await ask(pool, at.url, endpoint), Granted)
        forms = [received.request.form for received in at.received]
    identities = {decoded(form["client_assertion"])[1]["jti"] for form in forms}
    assert len(forms) == len(identities) == 2


async def test_a_key_that_went_away_sends_nothing_and_passes(tmp_path: Path, endpoint: TokenClient) -> None:
    """Nobody is blamed: it is tried again, and the detail names the file."""
    path = write_key(tmp_path, pem(EC_KEY))
    async with ScriptedTokenEndpoint((JSON(200, {"access_token": "t"}),)) as at:
        pool = read(tmp_path, client_key="file:client.key", token_url=at.url)
        path.unlink()
        verdict = await ask(pool, at.url, endpoint)
        assert isinstance(verdict, TryLater)
        assert "client.key can't be read" in verdict.detail
        assert at.received == []
        write_key(tmp_path, pem(EC_KEY))
        assert isinstance(await ask(pool, at.url, endpoint), Granted)


SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
MISTAKES: tuple[tuple[str, dict[str, Any], str], ...] = (
    (pem(EC_KEY, b"pass"), {}, r"client_key: names a key that is encrypted with a passphrase.*openssl"),
    ("word", {}, "is neither PEM nor JWK"),
    (pem(SMALL), {}, "less than 2048 bits"),
    (json.dumps(public_jwk(EC_KEY)), {}, "JWK without a private key"),
    (json.dumps({"keys": []}), {}, "set of keys"),
    ("{", {}, "no JSON"),
    (json.dumps({"kty": "RSA", "d": "AA"}), {}, "JWK that can't be read"),
    ("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", {}, "holds no private key"),
    ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", {}, "PEM that can't be read"),
    (private_jwk(EC_KEY, alg="RS256"), {}, "`alg` does not fit it: ES256"),
    (pem(EC_KEY), {"client_key_alg": "PS256"}, 'client_key_alg: does not fit the key. Write "ES256"'),
    (pem(EC_KEY), {"client_key_alg": "HS256"}, "client_key_alg: is none of"),
    (pem(EC_KEY), {"client_key": pem(EC_KEY)}, "does not say where the key is"),
    (pem(EC_KEY), {"client_key": "file:nowhere.key"}, "nowhere.key can't be read"),
    (pem(EC_KEY), {"client_secret": "x"}, "client_secret: is not used beside `client_key`"),
    (pem(EC_KEY), {"client_auth": "client_secret_basic"}, "client_key: is not used by this"),
)


@pytest.mark.parametrize(("text", "settings", "words"), MISTAKES)
def test_mistakes_are_told_without_the_key(tmp_path: Path, text: str, settings: dict[str, Any], words: str) -> None:
    """With file, key and remedy."""
    write_key(tmp_path, text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read(tmp_path, **{"client_key": "file:client.key", **settings})
    assert caught.value.__cause__ is None
    assert not any(line and line in str(caught.value) for line in pem(EC_KEY).splitlines()[1:-1])


def test_settings_without_a_key_are_told(tmp_path: Path) -> None:
    """Each would have no effect."""
    with pytest.raises(ConfigurationError, match="needs a key to sign with"):
        read(tmp_path, client_auth="private_key_jwt")
    with pytest.raises(ConfigurationError, match="client_key_id: means nothing"):
        read(tmp_path, client_key_id="x")
    with pytest.raises(ConfigurationError, match="client_assertion_audience: means nothing"):
        read(tmp_path, client_assertion_audience="x")
    with pytest.raises(ConfigurationError, match="needs a client secret"):
        read(tmp_path, client_auth="client_secret_jwt")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As every file that holds a secret; and no link."""
    path = write_key(tmp_path, pem(EC_KEY))
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"client_key: .*client\.key"):
        read(tmp_path, client_key="file:client.key")
    path.chmod(0o600)
    (tmp_path / "link.key").symlink_to(path)
    with pytest.raises(ConfigurationError, match=r"client_key: .*link\.key"):
        read(tmp_path, client_key="file:link.key")


def test_a_repr_shows_neither_key_nor_secret(tmp_path: Path) -> None:
    """Of the pool, of the request."""
    secret = "s" * 40
    pool = read(tmp_path, client_secret="env:SECRET", client_auth="client_secret_jwt")
    assert secret not in repr(pool)
    assert secret not in repr(grant_request(pool, "https://provider.test/token", account()))
