"""`token_params` and `token_headers`: what goes along with token requests, and what may not."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from authpool.accounts.account import Account, Token
from authpool.config import PoolConfig, load_config
from authpool.errors import ConfigurationError
from authpool.oauth.grant_request import grant_request, revocation_request, without_secrets
from authpool.oauth.token_client import TokenClient
from support.answers import JSON
from support.token_endpoint import ScriptedTokenEndpoint

ACCOUNT = Account(pool="p", name="a", token=Token(refresh_token="r"))
URL = "https://provider.test/token"
SECRET = "a-secret-of-the-gateway"


def read(home: Path, lines: str, *, secrets_later: bool = False, environ: dict[str, str] | None = None) -> PoolConfig:
    home.chmod(0o700)
    text = f'[pools.p]\nclient_id = "me"\nhosts = ["api.example"]\ntoken_url = "{URL}"\n{lines}\n'
    (home / "authpool.toml").write_text(text)
    environ = {"KEY": SECRET} if environ is None else environ
    return load_config(home, environ, secrets_later=secrets_later).pools["p"]


async def test_they_arrive_with_every_token_request(tmp_path: Path) -> None:
    """A parameter with several values several times; the grant's own stay as they are."""
    lines = (
        'token_params = { audience = "x", resource = ["urn:a", "urn:b"], key = "env:KEY" }\n'
        'token_headers = { X-Key = "env:KEY", X-Team = "t" }'
    )
    endpoint = TokenClient()
    async with ScriptedTokenEndpoint((JSON(200, {"access_token": "t"}),)) as at:
        request = grant_request(read(tmp_path, lines), at.url, ACCOUNT)
        await endpoint.post(request.url, request.sent_form(0), request.headers)
        received = at.received[0].request
    await endpoint.aclose()
    assert sorted(parse_qsl(received.body.decode())) == [
        ("audience", "x"),
        ("client_id", "me"),
        ("grant_type", "refresh_token"),
        ("key", SECRET),
        ("refresh_token", "r"),
        ("resource", "urn:a"),
        ("resource", "urn:b"),
    ]
    headers = {name.lower(): value for name, value in received.headers}
    assert (headers["x-key"], headers["x-team"]) == (SECRET, "t")


def test_the_command_line_looks_secrets_up_when_they_are_needed(tmp_path: Path) -> None:
    """Verbs that ask no token endpoint work without."""
    lines = 'token_headers = { X-Key = "env:KEY" }'
    later = read(tmp_path, lines, secrets_later=True, environ={})
    with pytest.raises(ConfigurationError, match=r"token_headers\.X-Key: the environment variable KEY is not set"):
        grant_request(later, URL, ACCOUNT)
    with pytest.raises(ConfigurationError, match=r"token_headers\.X-Key: the environment variable KEY is not set"):
        read(tmp_path, lines, environ={})
    assert grant_request(read(tmp_path, lines, secrets_later=True), URL, ACCOUNT).headers == {"X-Key": SECRET}


def test_another_secret_makes_another_pool(tmp_path: Path) -> None:
    """So a reload takes it in."""
    lines = 'token_params = { key = "env:KEY" }'
    assert read(tmp_path, lines) == read(tmp_path, lines)
    assert read(tmp_path, lines) != read(tmp_path, lines, environ={"KEY": "another"})


def test_a_revocation_has_none_of_them(tmp_path: Path) -> None:
    """It goes to another endpoint."""
    pool = read(tmp_path, 'token_params = { audience = "x" }\ntoken_headers = { X-Key = "env:KEY" }')
    request = revocation_request(pool, URL, ACCOUNT)
    assert "audience" not in request.sent_form(0)
    assert request.headers == {}


def test_secrets_are_in_no_repr_and_in_no_description(tmp_path: Path) -> None:
    """A provider may repeat what it was sent."""
    pool = read(tmp_path, 'token_params = { key = "env:KEY" }\ntoken_headers = { X-Key = "env:KEY" }')
    request = grant_request(pool, URL, ACCOUNT)
    assert SECRET not in repr(pool)
    assert SECRET not in repr(request)
    assert SECRET not in without_secrets(f"bad key {SECRET}", ACCOUNT, pool)


@pytest.mark.parametrize(
    ("key", "table", "words"),
    (
        ("token_params", {"grant_type": "x"}, r"token_params\.grant_type: is a parameter of the grant itself"),
        ("token_params", {"Client_ID": "x"}, r"token_params\.Client_ID: is a parameter of the grant"),
        ("token_params", {"scope": "x"}, r"token_params\.scope: .* Use `scopes`"),
        ("token_params", {"refresh_token": "x"}, "is a parameter of the grant"),
        ("token_params", {"client_assertion": "x"}, "is a parameter of the grant"),
        ("token_params", {"audience": 3}, r"token_params\.audience: must be a string"),
        ("token_params", {"resource": [3]}, r"token_params\.resource\[0\]: must be a string"),
        ("token_headers", {"authorization": "x"}, "is a header that authpool sets itself"),
        ("token_headers", {"Content-Length": "x"}, "is a header that authpool sets itself"),
        ("token_headers", {"X Y": "x"}, "is not a header name"),
        ("token_headers", {"X-Y": "a\nb"}, "has a line end"),
        ("token_headers", {"X-Y": ""}, "is empty"),
        ("token_headers", {"X-Y": "a", "x-y": "b"}, "is there twice"),
    ),
)
def test_mistakes_are_told(tmp_path: Path, key: str, table: dict[str, Any], words: str) -> None:
    """With file, key and remedy, never with the value."""
    inner = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in table.items())
    with pytest.raises(ConfigurationError, match=words):
        read(tmp_path, f"{key} = {{ {inner} }}")


def test_a_header_from_the_environment_is_looked_at_as_well(tmp_path: Path) -> None:
    """What it holds may be no header."""
    with pytest.raises(ConfigurationError, match="has a line end") as caught:
        read(tmp_path, 'token_headers = { X-Key = "env:KEY" }', environ={"KEY": "secret\nsecond"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ("token_params", "token_headers"))
def test_a_static_pool_has_no_token_endpoint(tmp_path: Path, key: str) -> None:
    """So there they would mean nothing."""
    (tmp_path / "authpool.toml").write_text(
        f'[pools.p]\ntype = "static"\nhosts = ["api.example"]\n{key} = {{ a = "b" }}\n'
    )
    with pytest.raises(ConfigurationError, match=f"{key}: means nothing here"):
        load_config(tmp_path, {})
