"""Presets hold endpoints and peculiarities of providers, and no identity."""

from dataclasses import fields
from pathlib import Path

import pytest

from authpool.config import PoolConfig, load_config
from authpool.config.endpoint_url import check_endpoint, check_issuer
from authpool.config.pool_table import ENDPOINT_KEYS, STANDARD_CODES
from authpool.config.presets import PRESETS, Preset


def read_pool(home: Path, lines: str) -> PoolConfig:
    text = f'[pools.x]\nclient_id = "me"\nhosts = ["api.example.com"]\n{lines}\n'
    (home / "authpool.toml").write_text(text)
    return load_config(home, {"SECRET": "s3cret"}).pools["x"]


def test_there_is_a_preset_for_each_provider_of_the_contract() -> None:
    """The names are part of the configuration format."""
    assert set(PRESETS) == {"google", "microsoft", "github_app", "gitlab", "okta", "auth0", "slack", "salesforce"}


def test_a_preset_has_no_place_for_a_client() -> None:
    """No client id or secret can be built in, nor scopes that are asked for: there is no such field."""
    assert {field.name for field in fields(Preset)} == {
        *ENDPOINT_KEYS,
        "codes",
        "client_auth",
        "issuer_example",
        "authorize_params",
        "issuers",
        "refresh_scope",  # told to who gets no refresh token
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_one_that_the_configuration_would_accept(name: str) -> None:
    """Its URLs are https, its codes map to standard ones, and it says where tokens come from."""
    preset = PRESETS[name]
    for key in ENDPOINT_KEYS:
        url = getattr(preset, key)
        if url is not None:
            check_endpoint(url)
            assert url.startswith("https://")
    assert set(preset.codes.values()) <= STANDARD_CODES
    assert preset.token_url or preset.issuer_example
    if preset.issuer_example:
        check_issuer(preset.issuer_example)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.token_url])
def test_a_preset_fills_in_all_it_knows(tmp_path: Path, name: str) -> None:
    """A pool that names only the preset and its client has the provider's endpoints and codes."""
    pool = read_pool(tmp_path, f'preset = "{name}"')
    preset = PRESETS[name]
    assert pool.preset == name
    assert all(getattr(pool, key) == getattr(preset, key) for key in ENDPOINT_KEYS)
    assert pool.codes == preset.codes


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.issuer_example])
def test_a_preset_with_an_issuer_per_customer_takes_it(tmp_path: Path, name: str) -> None:
    """Okta and Auth0 are used by issuer: the endpoints are left to discovery."""
    pool = read_pool(tmp_path, f'preset = "{name}"\nissuer = "https://tenant.example/"')
    assert pool.issuer == "https://tenant.example/"
    assert all(getattr(pool, key) is None for key in ENDPOINT_KEYS)
    assert pool.codes == PRESETS[name].codes


def test_what_the_pool_says_overrides_its_preset_key_by_key(tmp_path: Path) -> None:
    """One endpoint and one code of the pool's own leave the others as the preset has them."""
    lines = 'preset = "slack"\ntoken_url = "https://mine.example/t"\ncodes = { fatal_error = "slow_down" }'
    pool = read_pool(tmp_path, lines)
    assert pool.token_url == "https://mine.example/t"
    assert pool.authorize_url == PRESETS["slack"].authorize_url
    assert pool.codes == {**PRESETS["slack"].codes, "fatal_error": "slow_down"}
    assert PRESETS["slack"].codes["fatal_error"] == "server_error"


def test_an_issuer_of_its_own_replaces_the_presets_endpoints(tmp_path: Path) -> None:
    """A GitLab of one's own never gets its tokens from gitlab.com, and keeps what the pool itself says."""
    lines = 'preset = "gitlab"\nissuer = "https://git.mine.example"\ndevice_url = "https://git.mine.example/d"'
    pool = read_pool(tmp_path, lines)
    assert pool.issuer == "https://git.mine.example"
    assert pool.device_url == "https://git.mine.example/d"
    assert pool.token_url is None
    assert pool.revoke_url is None


@pytest.mark.parametrize(
    ("lines", "client_auth"),
    (
        ('preset = "google"', "none"),
        ('preset = "google"\nclient_secret = "env:SECRET"', "client_secret_basic"),
        ('preset = "github_app"', "none"),
        ('preset = "github_app"\nclient_secret = "env:SECRET"', "client_secret_post"),
        (
            'preset = "github_app"\nclient_secret = "env:SECRET"\nclient_auth = "client_secret_basic"',
            "client_secret_basic",
        ),
    ),
)
def test_the_client_authenticates_as_the_provider_wants(tmp_path: Path, lines: str, client_auth: str) -> None:
    """The pool's own word goes first, then the preset's peculiarity, then the default with a secret."""
    client = read_pool(tmp_path, lines).client
    assert client is not None
    assert client.client_auth == client_auth


@pytest.mark.parametrize(
    ("preset", "code", "standard"),
    (
        ("github_app", "bad_refresh_token", "invalid_grant"),
        ("github_app", "incorrect_client_credentials", "invalid_client"),
        ("slack", "invalid_refresh_token", "invalid_grant"),
        ("slack", "bad_client_secret", "invalid_client"),
        ("auth0", "mfa_required", "interaction_required"),
    ),
)
def test_a_peculiar_code_is_known_for_what_it_means(preset: str, code: str, standard: str) -> None:
    """What the providers document in words of their own is mapped to the standard code."""
    assert PRESETS[preset].codes[code] == standard


def test_only_a_refused_refresh_token_is_mapped_to_a_dead_grant() -> None:
    """Nothing that could mean anything else may disable an account."""
    dead = {code for preset in PRESETS.values() for code, std in preset.codes.items() if std == "invalid_grant"}
    assert dead == {"bad_refresh_token", "invalid_refresh_token"}
