"""What a pool's `codes` may name beside the code in `error`: a number, a code in the description, a whole one."""

import json
from pathlib import Path

import pytest

from authpool.config import PoolConfig, load_config
from authpool.config.presets import PRESETS
from authpool.errors import ConfigurationError
from authpool.oauth.verdict import GrantRejected, Reply, TryLater, Verdict, judge

LOOP = "AADSTS50196: The server terminated an operation because it encountered a client request loop. Trace ID: x"
BUSY = "token request is already being processed"
HEAD = '[pools.x]\nclient_id = "me"\nhosts = ["api.example.com"]\ntoken_url = "https://op.example/t"\n'


def verdict(body: object, codes: dict[str, str]) -> Verdict:
    return judge(Reply(status=400, body=json.dumps(body).encode()), now=0, codes=codes, presented="r")


def read_pool(home: Path, lines: str) -> PoolConfig:
    (home / "authpool.toml").write_text(HEAD + lines)
    return load_config(home, {}).pools["x"]


@pytest.mark.parametrize(
    ("preset", "body", "told"),
    (
        ("microsoft", {"error_description": LOOP, "error_codes": [50196]}, "HTTP 400 slow_down (50196)"),
        ("microsoft", {"error_description": LOOP}, "HTTP 400 slow_down (AADSTS50196)"),
        ("microsoft", {"error_codes": ["90033"]}, "HTTP 400 temporarily_unavailable (90033)"),
        (
            "microsoft",
            {"error_description": "Oops (AADSTS90033)."},
            "HTTP 400 temporarily_unavailable (AADSTS90033)",
        ),
        ("salesforce", {"error_description": BUSY}, f"HTTP 400 temporarily_unavailable ({BUSY})"),
        (
            "salesforce",
            {"error_description": "Token  request is already being processed."},
            f"HTTP 400 temporarily_unavailable ({BUSY})",
        ),
    ),
)
def test_an_invalid_grant_that_passes_disables_nobody(preset: str, body: dict[str, object], told: str) -> None:
    """The preset knows it, and what was sent is told beside what it stands for."""
    found = verdict({"error": "invalid_grant", **body}, dict(PRESETS[preset].codes))
    assert found == TryLater(detail=told)


@pytest.mark.parametrize(
    ("preset", "body"),
    (
        ("microsoft", {"error_description": "AADSTS700082: The refresh token has expired.", "error_codes": [700082]}),
        ("microsoft", {"error_description": "AADSTS501960: another"}),
        ("microsoft", {"error_description": "XAADSTS50196: another, AADSTS50196-1, 50196, aadsts50196"}),
        ("microsoft", {"error_codes": [150196, None, {"a": 50196}, 50196.5, True]}),
        ("microsoft", {"error_codes": "50196"}),
        ("microsoft", {"error_codes": 50196}),
        ("salesforce", {"error_description": f"expired: not that a {BUSY}"}),
        ("salesforce", {"error_description": "expired access/refresh token"}),
        ("google", {"error_description": LOOP, "error_codes": [50196]}),
    ),
)
def test_what_is_named_is_compared_for_equality(preset: str, body: dict[str, object]) -> None:
    """A part of a number, of a code or of a sentence is none of them."""
    assert isinstance(verdict({"error": "invalid_grant", **body}, dict(PRESETS[preset].codes)), GrantRejected)


def test_a_word_of_the_description_is_no_standard_code() -> None:
    """Even where the pool maps that code, and whatever it maps it to."""
    body = {"error": "access_denied", "error_description": "invalid_request: the grant is well"}
    found = verdict(body, {"invalid_request": "invalid_grant", "the": "invalid_grant"})
    assert isinstance(found, TryLater)
    assert found.detail == "HTTP 400 with an unknown error code"


def test_what_is_more_exact_counts() -> None:
    """A number or a description says more than the code they come with."""
    codes = {"invalid_grant": "slow_down", "AADSTS700082": "invalid_grant"}
    found = verdict({"error": "invalid_grant", "error_description": "AADSTS700082: inactive"}, codes)
    assert found == GrantRejected(reason="invalid_grant (AADSTS700082): AADSTS700082: inactive")


def test_error_codes_is_another_name_for_codes(tmp_path: Path) -> None:
    """The same table, with numbers and sentences as keys."""
    lines = '{ "50196" = "slow_down", AADSTS1 = "server_error", "try that again" = "temporarily_unavailable" }'
    expected = {"50196": "slow_down", "AADSTS1": "server_error", "try that again": "temporarily_unavailable"}
    assert read_pool(tmp_path, f"error_codes = {lines}").codes == expected
    assert read_pool(tmp_path, f"codes = {lines}").codes == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    (
        ('codes = { a = "slow_down" }\nerror_codes = { b = "slow_down" }', r"pools\.x\.error_codes: is another name"),
        ('error_codes = { a = "slow" }', r"pools\.x\.error_codes\.a: is none of"),
        ("error_codes = { a = 1 }", r"pools\.x\.error_codes\.a: must be a string"),
        ("error_codes = [50196]", r"pools\.x\.error_codes: must be a table"),
    ),
)  # fmt: skip
def test_a_mistake_in_it_is_told_with_its_place(tmp_path: Path, lines: str, message: str) -> None:
    """Under the name it was written with; both names at once are a mistake."""
    with pytest.raises(ConfigurationError, match=message):
        read_pool(tmp_path, lines)
