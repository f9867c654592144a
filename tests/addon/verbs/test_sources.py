"""Where credentials come from, and every format they come in."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import OAuthClient
from authpool.errors import RefusedError
from authpool.verbs.sources import Credential, credential_document, parse_credential, read_source

SECRET = "1//the-secret-token"


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


# --- sources ---------------------------------------------------------------------------------------------------------


def test_file_is_read_and_remembered(tmp_path: Path) -> None:
    """`@FILE` reads a private file, white space around a bare token dropped."""
    path = private(tmp_path / "token", f"  {SECRET}\n\n")
    assert read_source(f"@{path}", environ={}) == Credential(secret=SECRET, path=path)


def test_environment_variable_is_read() -> None:
    """`env:NAME` reads the environment that is handed in."""
    assert read_source("env:TOKEN", environ={"TOKEN": SECRET}).secret == SECRET


def test_standard_input_is_read_where_there_is_one() -> None:
    """`-` is for the command line only."""
    assert read_source("-", environ={}, stdin=lambda: f"{SECRET}\n").secret == SECRET
    with pytest.raises(RefusedError, match="must be @FILE or env:NAME:"):
        read_source("-", environ={})


@pytest.mark.parametrize("source", (SECRET, "", '{"refresh_token": "1//the-secret-token"}', "file:1//the-secret-token"))
def test_secret_as_an_argument_is_refused_and_not_repeated(source: str) -> None:
    """Prompts and shells remember arguments, and a message is one more place to find it in."""
    with pytest.raises(RefusedError, match="remembered by prompts and shells") as refused:
        read_source(source, environ={})
    assert "the-secret" not in str(refused.value)


@pytest.mark.parametrize("mode", (0o644, 0o640, 0o604))
def test_file_that_others_can_read_is_refused_with_the_command_to_run(tmp_path: Path, mode: int) -> None:
    """The refusal names the file and the chmod."""
    path = private(tmp_path / "token", SECRET, mode)
    with pytest.raises(RefusedError, match=f"chmod 600 '{path}'"):
        read_source(f"@{path}", environ={})


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    """A link may lead where somebody else wants it."""
    link = tmp_path / "link"
    link.symlink_to(private(tmp_path / "token", SECRET))
    with pytest.raises(RefusedError, match="symbolic link"):
        read_source(f"@{link}", environ={})


@pytest.mark.parametrize(
    ("source", "words"),
    (
        ("@", "no file"),
        ("@a\0b", "no file"),
        ("@/nowhere/token", "can't be read"),
        ("@~nobody-of-that-name/x", "does not exist"),
        ("env:", "no environment variable"),
        ("env:A-B", "no environment variable"),
        ("env:UNSET", "UNSET is not set, or is empty"),
        ("env:BLANK", "BLANK is not set, or is empty"),
    ),
)
def test_source_that_leads_nowhere_is_refused(source: str, words: str) -> None:
    """What is missing is named."""
    with pytest.raises(RefusedError, match=words):
        read_source(source, environ={"BLANK": "  "})


# --- formats ---------------------------------------------------------------------------------------------------------


def test_token_response() -> None:
    """RFC 6749 §5.1."""
    text = json.dumps({"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 3600})
    assert parse_credential(text, "x") == Credential(access_token="a", refresh_token="r")


def test_authorized_user() -> None:
    """Google's file brings its client along."""
    text = json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"})
    assert parse_credential(text, "x") == Credential(
        refresh_token="r", client=OAuthClient(client_id="c", client_secret="s")
    )


def test_token_json_of_googles_libraries() -> None:
    """There `token` is the access token, a string; it is not needed."""
    assert parse_credential(json.dumps({"token": "a", "refresh_token": "r", "scopes": []}), "x").refresh_token == "r"


MANAGER = {
    "email": "alice@example.com",
    "name": None,
    "token": {"access_token": "a", "refresh_token": "r", "expires_in": 3599, "token_type": "Bearer"},
    "quota": None,
    "disabled": True,
    "disabled_reason": "invalid_grant",
    "proxy_disabled": True,
    "proxy_disabled_at": 1_700_000_000,
    "proxy_disabled_reason": "manual",
    "custom_label": "Spare",
    "device_profile": {"machine_id": "m"},
}
IMPORTED = Credential(
    access_token="a",
    refresh_token="r",
    name="alice@example.com",
    label="Spare",
    proxy_disabled=True,
    proxy_disabled_at=1_700_000_000,
    proxy_disabled_reason="manual",
)


@pytest.mark.parametrize("before", ("", "\ufeff", "\0\0", "\0\ufeff", "\ufeff\0\n"))
def test_antigravity_manager_account(before: str) -> None:
    """Identity, token, the operator's switch and the label; a BOM or NULs in front do no harm."""
    text = before + json.dumps(MANAGER)
    if before == "\ufeff\0\n":
        text += "\0\0"
    assert parse_credential(text, "x") == IMPORTED


def test_pause_of_an_account_that_is_not_paused_is_left_behind() -> None:
    """Time and reason of a switch that is off mean nothing."""
    assert not parse_credential(json.dumps({**MANAGER, "proxy_disabled": False}), "x").proxy_disabled_reason


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("", "is empty"),
        ("\ufeff \n", "is empty"),
        ("{", "not valid JSON"),
        ('{"refresh_token": "the-secret"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('[{"email": "a", "refresh_token": "the-secret"}]', "authpool import"),
        ('{"type": "service_account"}', "holds no refresh_token"),
        ('{"refresh_token": 5}', "must be a string"),
        ('{"refresh_token": "the-secret token"}', "copy it again"),
        ("the-secret\nand more", "more than one line"),
        ("the-secret and more", "copy it again"),
        ("the-secret-ü", "copy it again"),
        ("client_secret = 'the-secret'\nother = 1", "more than one line"),
    ),
)
def test_what_is_no_credential_is_refused_without_repeating_it(text: str, words: str) -> None:
    """The origin and what is wrong are told, never the content; nor does it hide in the error's chain."""
    with pytest.raises(RefusedError, match=words) as refused:
        parse_credential(text, "the file")
    assert str(refused.value).startswith("the file")
    assert "the-secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@given(st.text())
def test_any_text_is_a_credential_or_refused(text: str) -> None:
    """Nothing that a file may hold makes anything else of the parser."""
    try:
        parsed = parse_credential(text, "x")
    except RefusedError:
        return
    assert parsed.secret or parsed.refresh_token or parsed.access_token or parsed.client


def test_secrets_are_not_in_the_repr() -> None:
    """A credential may be logged by mistake."""
    shown = repr(
        Credential(
            secret=SECRET,
            refresh_token=SECRET,
            access_token=SECRET,
            client=OAuthClient(client_id="c", client_secret=SECRET),
        )
    )
    assert SECRET not in shown


def test_credential_that_is_kept_is_read_again() -> None:
    """What is written for later is the same credential, but for the name it claimed."""
    client = OAuthClient(client_id="c", client_secret="s")
    for credential in (IMPORTED, Credential(refresh_token="r", client=client)):
        again = parse_credential(json.dumps(credential_document(credential)), "x")
        assert again.refresh_token == "r"
        assert (again.client, again.label, again.name) == (credential.client, credential.label, None)
        assert again.proxy_disabled_at == credential.proxy_disabled_at
