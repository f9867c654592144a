"""Key pairs of AWS as its tools write them."""

import json
from pathlib import Path

import pytest

from authpool.errors import RefusedError
from authpool.verbs.sources import parse_credential, read_source

PAIR = {"AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "the/secret+key="}
SESSION = {**PAIR, "SessionToken": "the-session", "Expiration": "2030-01-02T03:04:05Z"}
ENDS_AT = 1893553445

INI = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = the/secret+key=\n"


@pytest.mark.parametrize(
    "text",
    (
        json.dumps({"Version": 1, **PAIR}),
        json.dumps({"AccessKey": {"UserName": "ci", "Status": "Active", **PAIR}}),
        json.dumps({"Credentials": {**PAIR, "SessionToken": None}}),
        INI,
        INI.replace("[default]", "[profile ci]"),
        INI.replace("[default]\n", ""),
        INI.upper().replace("AKIAEXAMPLE", "AKIAEXAMPLE").replace("THE/SECRET+KEY=", "the/secret+key="),
        f"# mine\n{INI}region = eu-central-1\n[other]\nregion = x\n",
        INI.replace("\n", "\r\n"),
    ),
)
def test_a_lasting_pair(text: str) -> None:
    """`aws iam create-access-key`, a credential process, a credentials file with one profile."""
    client = parse_credential(text, "the source").client
    assert client is not None
    assert (client.client_id, client.client_secret, client.extra) == ("AKIAEXAMPLE", "the/secret+key=", {})


@pytest.mark.parametrize(
    "text",
    (
        json.dumps({"Credentials": SESSION, "AssumedRoleUser": {}}),
        json.dumps({"Version": 1, **SESSION}),
        f"{INI}aws_session_token = the-session\nx_expiration = 2030-01-02T05:04:05+02:00\n",
    ),
)
def test_a_pair_for_a_while(text: str) -> None:
    """`aws sts get-session-token`, `aws configure export-credentials`."""
    client = parse_credential(text, "the source").client
    assert client is not None
    assert client.extra == {"session_token": "the-session", "expires_at": ENDS_AT}
    assert "the-s" not in repr(client)


@pytest.mark.parametrize(
    ("text", "why"),
    (
        (json.dumps({"AccessKeyId": "AKIA"}), "holds no SecretAccessKey"),
        (json.dumps({"SecretAccessKey": "secret"}), "holds no AccessKeyId"),
        (json.dumps({**PAIR, "SecretAccessKey": "sec ret"}), "`SecretAccessKey` has a space"),
        (json.dumps({**PAIR, "SessionToken": ["secret"]}), "`SessionToken` has a space"),
        (json.dumps({**SESSION, "Expiration": "2030-01-02"}), "`Expiration` is no date with its zone"),
        (json.dumps({**SESSION, "Expiration": 17}), "`Expiration` is no date with its zone"),
        (INI + INI.replace("default", "other"), "holds 2 profiles"),
        ("[default]\naws_access_key_id = AKIA\nsecret", "is no credentials file that can be read"),
        ("[default]\naws_access_key_id = AKIA\n", "holds no SecretAccessKey"),
    ),
)
def test_what_is_no_pair_is_refused_without_repeating_it(text: str, why: str) -> None:
    """The message says what is missing, and nothing of what is there."""
    with pytest.raises(RefusedError) as refused:
        parse_credential(text, "the source")
    assert str(refused.value).startswith("the source")
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("text", ("[1, 2]", "[\n1\n]", '["aws_access_key_id"]\n'))
def test_a_list_is_a_list(text: str) -> None:
    """A bracket begins a profile or a list."""
    with pytest.raises(RefusedError, match="list"):
        parse_credential(text, "the source")


def test_from_a_private_file(tmp_path: Path) -> None:
    """As any other source."""
    path = tmp_path / "credentials"
    path.write_text(INI)
    path.chmod(0o600)
    client = read_source(f"@{path}", environ={}).client
    assert client is not None
    assert client.client_id == "AKIAEXAMPLE"
