"""Every form that accounts are listed in, told by its content."""

import base64
import json
from typing import Any

import pytest

from authpool.accounts.account import OAuthClient
from authpool.verbs.import_formats.entry import ImportEntry, Unreadable
from authpool.verbs.import_formats.texts import text_entries

TOKEN = "1//the-secret-token"


def jwt(claims: dict[str, Any]) -> str:
    """An id_token, whose signature nobody looks at."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def entries(text: str) -> list[ImportEntry]:
    """All of them, none unreadable."""
    found = list(text_entries(text, "the list"))
    assert all(isinstance(one, ImportEntry) for one in found), found
    return [one for one in found if isinstance(one, ImportEntry)]


def one(document: Any) -> ImportEntry:
    (entry,) = entries(json.dumps(document))
    return entry


def shown(entry: ImportEntry) -> tuple[str | None, str | None]:
    return entry.expected, entry.credential.refresh_token or entry.credential.secret


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    (
        "a@example.com,t1\nb@example.com,t2\n",
        "name,refresh_token\na@example.com,t1\nb@example.com,t2\n",
        "\ufeffName;Refresh Token\r\na@example.com;t1\r\nb@example.com;t2\r\n",
        '"a@example.com","t1"\n\n# a comment\n"b@example.com","t2"\n',
        "a@example.com\tt1\nb@example.com\tt2",
        "refresh_token\temail\nt1\ta@example.com\nt2\tb@example.com\n",
        '{"email": "a@example.com", "refresh_token": "t1"}\n{"email": "b@example.com", "refresh_token": "t2"}\n',
        '[{"email": "a@example.com", "refresh_token": "t1"}, {"email": "b@example.com", "refresh_token": "t2"}]',
        json.dumps(
            {"accounts": [{"name": f"{n}@example.com", "refresh_token": t} for n, t in (("a", "t1"), ("b", "t2"))]}
        ),
    ),
    ids=("csv", "csv-header", "semicolons", "quotes", "tsv", "tsv-header", "json-lines", "export-list", "wrapped"),
)
def test_list_is_told_by_its_content(text: str) -> None:
    """Each of these is the same two accounts."""
    assert [shown(entry) for entry in entries(text)] == [("a@example.com", "t1"), ("b@example.com", "t2")]


@pytest.mark.parametrize("text", ("t1\nt2\n", '["t1", "t2"]', '[{"refresh_token": "t1"}, {"refresh_token": "t2"}]'))
def test_list_without_names(text: str) -> None:
    """Who they are the provider tells."""
    assert [shown(entry) for entry in entries(text)] == [(None, "t1"), (None, "t2")]


@pytest.mark.parametrize(
    ("text", "problem"),
    (
        ('a,t1\n"b,t2\nc,t3\n', "a quote"),
        ("a,t1\nb\nc,t3\n", None),
        ("a,t1\nb,t 2\nc,t3\n", "no token has"),
        ("a,t1\nb,\nc,t3\n", "no refresh token"),
        ("a,t1\nb,t2,x\nc,t3\n", "without a header"),
        ("name,refresh_token\na,t1\nb,t2,x\nc,t3\n", "the header names 2"),
        (
            '{"name": "a", "refresh_token": "t1"}\n{"name": "b"\n{"name": "c", "refresh_token": "t3"}\n',
            "not valid JSON",
        ),
        ('[{"name": "a", "refresh_token": "t1"}, 7, {"name": "c", "refresh_token": "t3"}]', "no refresh token"),
    ),
)
def test_one_bad_entry_spoils_no_other(text: str, problem: str | None) -> None:
    """It is told where it stands, and what is wrong with it, without repeating it."""
    found = list(text_entries(text, "the list"))
    assert [one.expected for one in found if isinstance(one, ImportEntry) and one.expected] == ["a", "c"]
    bad = [one for one in found if isinstance(one, Unreadable)]
    if problem is not None:
        assert problem in bad[0].problem
        assert "t 2" not in bad[0].problem
        assert bad[0].where.startswith("the list, ")


@pytest.mark.parametrize(
    ("text", "foreign"),
    (
        ("", True),
        ("\x00\ufeff \n", True),
        ('{"theme": "dark"}', True),
        ("{", False),
        ("[1, ", False),
        ("[" * 9999, False),
    ),
)
def test_what_is_no_list_is_told(text: str, *, foreign: bool) -> None:
    """What nobody meant to be an account is not held against the import."""
    (found,) = text_entries(text, "the list")
    assert isinstance(found, Unreadable)
    assert found.foreign is foreign


# --- documents -------------------------------------------------------------------------------------------------------


def test_antigravity_account_is_read_with_its_states() -> None:
    """Identity, token, both states with reason and time, label and times; device data stays behind."""
    entry = one(
        {
            "id": "4be1",
            "email": "a@example.com",
            "name": "Alice",
            "token": {"access_token": "at", "refresh_token": TOKEN, "expiry_timestamp": 1700003600, "id_token": None},
            "disabled": True,
            "disabled_reason": "invalid_grant",
            "disabled_at": 1700000000,
            "proxy_disabled": True,
            "proxy_disabled_at": 1700000001,
            "proxy_disabled_reason": "quota",
            "created_at": 1690000000,
            "custom_label": "spare",
            "device_profile": {"machine_id": "machine-7"},
        }
    )
    assert shown(entry) == ("a@example.com", TOKEN)
    assert entry.name is None
    assert (entry.disabled, entry.disabled_reason, entry.disabled_at) == (True, "invalid_grant", 1700000000)
    credential = entry.credential
    assert (credential.proxy_disabled, credential.proxy_disabled_reason) == (True, "quota")
    assert (credential.proxy_disabled_at, credential.created_at, credential.label) == (1700000001, 1690000000, "spare")
    assert entry.renewed_at == 1700003600
    assert "machine-7" not in repr(entry)
    assert TOKEN not in repr(entry)


def test_authorized_user_brings_its_client() -> None:
    """Google's `authorized_user` holds the client that its token was issued to."""
    entry = one({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": TOKEN})
    assert entry.credential.client == OAuthClient(client_id="c", client_secret="s")
    assert shown(entry) == (None, TOKEN)


@pytest.mark.parametrize(
    "document",
    (
        {"type": "codex", "refresh_token": TOKEN, "email": "a@example.com", "expired": "2026-01-01T00:00:00Z"},
        {"type": "claude", "refresh_token": TOKEN, "email": "a@example.com", "expired": "2026-01-01T00:00:00+00:00"},
        {
            "type": "antigravity",
            "refresh_token": TOKEN,
            "email": "a@example.com",
            "expired": "2026-01-01T01:00:00+01:00",
        },
        {
            "type": "gemini",
            "email": "a@example.com",
            "token": {"refresh_token": TOKEN, "client_id": "c", "expiry": "2026-01-01T00:00:00Z"},
        },
    ),
    ids=lambda document: document["type"],
)
def test_cliproxyapi_files_are_read(document: dict[str, Any]) -> None:
    """As its storage types write them; `disabled` where its management interface has set it."""
    entry = one({**document, "disabled": True})
    assert shown(entry) == ("a@example.com", TOKEN)
    assert entry.renewed_at == 1767225600
    assert entry.disabled


def test_codex_auth_json_is_named_by_its_id_token() -> None:
    """The pair is in `tokens`, and the name in a claim of the id_token."""
    tokens = {"id_token": jwt({"sub": "1", "email": "a@example.com"}), "access_token": "at", "refresh_token": TOKEN}
    entry = one({"OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": "2026-01-01T00:00:00.123456Z"})
    assert shown(entry) == ("a@example.com", TOKEN)
    assert entry.renewed_at == 1767225600


@pytest.mark.parametrize("as_table", (False, True))
def test_better_ccflare_row_is_read(*, as_table: bool) -> None:
    """Times are in milliseconds; its name is a label, for the operator made it up."""
    row = {
        "id": "1",
        "name": "work",
        "provider": "anthropic",
        "refresh_token": TOKEN,
        "access_token": "",
        "created_at": 1690000000000,
        "paused": 1,
        "pause_reason": "manual",
        "requires_reauth": 1,
    }
    text = ",".join(row) + "\n" + ",".join(map(str, row.values())) if as_table else json.dumps([row])
    (entry,) = entries(text)
    assert shown(entry) == (None, TOKEN)
    assert (entry.nickname, entry.credential.label, entry.credential.created_at) == ("work", "work", 1690000000)
    assert entry.credential.proxy_disabled
    assert entry.disabled


@pytest.mark.parametrize(
    ("document", "problem"),
    (
        ({"type": "service_account", "private_key": "p"}, "service account"),
        ({"provider": "zai", "paused": 0, "api_key": "k"}, "API key"),
        ({"access_token": 7}, "must be a string"),
        ({"tokens": {}}, "no refresh token"),
    ),
)
def test_document_that_is_no_account_says_so(document: dict[str, Any], problem: str) -> None:
    """In one sentence, without what it holds."""
    (found,) = text_entries(json.dumps(document), "the file")
    assert isinstance(found, Unreadable)
    assert problem in found.problem


@pytest.mark.parametrize(
    "text",
    (
        '"""What it does."""\n\nimport os\nfrom sys import path\nprint(os.name)\n"""\n',
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\n",
        "Dear all,\nwe meet at noon, as ever, in the hall\nYours,\n",
    ),
    ids=("program", "key", "letter"),
)
def test_a_text_that_is_no_list_is_not_presented_line_by_line(text: str) -> None:
    """A folder that was named by mistake has other people's secrets in it: each line would go to the provider."""
    (found,) = text_entries(text, "notes")
    assert isinstance(found, Unreadable)
    assert "it is no list of accounts" in found.problem
