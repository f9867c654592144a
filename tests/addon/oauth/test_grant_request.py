"""The form that asks for a token, and how the client proves itself."""

import base64
from urllib.parse import unquote_plus

import pytest

from authpool.accounts.account import Account, OAuthClient, Token
from authpool.config.pool_config import ClientConfig
from authpool.oauth.grant_request import basic_authorization, client_of, grant_request
from support.world import pool_config

URL = "https://provider.test/token"
ACCOUNT = Account(pool="pool", name="alice", token=Token(refresh_token="r+t &="))
SECRET = "s3cret"


def client(**settings: object) -> ClientConfig:
    return ClientConfig(**{"client_id": "id", "client_secret": SECRET, **settings})  # type: ignore[arg-type]


def test_client_secret_post() -> None:
    """RFC 6749 §2.3.1, in the body."""
    request = grant_request(pool_config(client=client(client_auth="client_secret_post")), URL, ACCOUNT)
    assert request.form == {
        "grant_type": "refresh_token", "refresh_token": "r+t &=", "client_id": "id", "client_secret": SECRET
    }  # fmt: skip
    assert request.headers == {}


def test_client_secret_basic() -> None:
    """In the header, and nowhere else: servers may refuse two ways at once."""
    request = grant_request(pool_config(client=client(client_auth="client_secret_basic")), URL, ACCOUNT)
    assert request.form == {"grant_type": "refresh_token", "refresh_token": "r+t &="}
    assert request.headers == {"Authorization": basic_authorization("id", SECRET)}


@pytest.mark.parametrize("config", (client(client_auth="none"), ClientConfig(client_id="id")))
def test_a_public_client_names_itself(config: ClientConfig) -> None:
    """RFC 6749 §3.2.1."""
    request = grant_request(pool_config(client=config), URL, ACCOUNT)
    assert request.form == {"grant_type": "refresh_token", "refresh_token": "r+t &=", "client_id": "id"}
    assert request.headers == {}


def test_no_client_at_all() -> None:
    """A provider that wants none gets none."""
    request = grant_request(pool_config(client=None), URL, ACCOUNT)
    assert request.form == {"grant_type": "refresh_token", "refresh_token": "r+t &="}


def test_an_account_with_a_client_of_its_own() -> None:
    """Its grant belongs to that client."""
    account = Account(
        pool="pool", name="a", token=Token(refresh_token="r"), client=OAuthClient(client_id="own", client_secret="x")
    )
    for pool in (pool_config(client=None), pool_config()):
        request = grant_request(pool, URL, account)
        assert (request.form["client_id"], request.form["client_secret"]) == ("own", "x")
        assert client_of(pool, account) == account.client


@pytest.mark.parametrize(("client_id", "secret"), (("id", "secret"), ("a:b", "p:q %"), ("ä b", "+/=&")))
def test_basic_is_form_encoded_first(client_id: str, secret: str) -> None:
    """RFC 6749 §2.3.1: so a colon in the client id does not end it."""
    scheme, _, encoded = basic_authorization(client_id, secret).partition(" ")
    sent_id, _, sent_secret = base64.b64decode(encoded).decode().partition(":")
    assert scheme == "Basic"
    assert (unquote_plus(sent_id), unquote_plus(sent_secret)) == (client_id, secret)


def test_client_credentials() -> None:
    """RFC 6749 §4.4.2; `scope` only where one is configured."""
    pool = pool_config(type="client_credentials", client=client(client_auth="none"), scopes=("a", "b"))
    assert grant_request(pool, URL, ACCOUNT).form == {
        "grant_type": "client_credentials", "scope": "a b", "client_id": "id"
    }  # fmt: skip
    assert "scope" not in grant_request(pool_config(type="client_credentials"), URL, ACCOUNT).form


def test_a_refresh_asks_for_no_scope() -> None:
    """Left out, it means: as granted before (RFC 6749 §6)."""
    assert "scope" not in grant_request(pool_config(scopes=("a",)), URL, ACCOUNT).form


def test_nothing_to_refresh_with() -> None:
    """That is the caller's mistake."""
    with pytest.raises(ValueError, match="without a refresh token"):
        grant_request(pool_config(), URL, Account(pool="pool", name="a"))


def test_the_client_is_told_apart_without_its_secret() -> None:
    """The storm rule needs a name for (token endpoint, client); a repr shows neither form nor headers."""
    for auth in ("client_secret_post", "client_secret_basic"):
        request = grant_request(pool_config(client=client(client_auth=auth)), URL, ACCOUNT)
        assert request.client == f"{URL} id"
        assert SECRET not in repr(request)
        assert "r+t" not in repr(request)
    assert grant_request(pool_config(client=client(client_id="other")), URL, ACCOUNT).client != f"{URL} id"


@pytest.mark.parametrize(
    "spelled",
    ("HTTPS://Provider.Example/token", "https://provider.example:443/token", "https://provider.example./token"),
)
def test_a_client_has_one_name_however_its_endpoint_is_spelled(spelled: str) -> None:
    """Two pools that write one URL in two ways are not two clients of three accounts each to the storm rule."""
    url = "https://provider.example/token"
    assert grant_request(pool_config(), spelled, ACCOUNT).client == grant_request(pool_config(), url, ACCOUNT).client
    assert grant_request(pool_config(), url + "/", ACCOUNT).client != grant_request(pool_config(), url, ACCOUNT).client
