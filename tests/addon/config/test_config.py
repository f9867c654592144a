"""authpool.toml becomes frozen types; each mistake is answered with file, key and remedy."""

import textwrap
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from authpool.config import (
    CONFIG_NAME,
    ClientConfig,
    Config,
    GatewayConfig,
    HeaderInjection,
    HostPattern,
    PoolConfig,
    QueryInjection,
    load_config,
)
from authpool.config.pool_config import SignInConfig
from authpool.errors import ConfigurationError

SMALLEST = """
[pools.x]
token_url = "https://op.example/token"
client_id = "me"
hosts = ["api.example.com"]
"""


def write(home: Path, text: str, mode: int = 0o600) -> Path:
    path = home / CONFIG_NAME
    path.write_text(textwrap.dedent(text))
    path.chmod(mode)
    return path


def load(home: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    write(home, text)
    return load_config(home, environ or {})


def refusal(home: Path, text: str, environ: Mapping[str, str] | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(home, text, environ)
    return caught.value


def test_the_smallest_pool_has_the_defaults_of_the_contract(tmp_path: Path) -> None:
    """Three keys are enough for a pool; everything else is as documented."""
    config = load(tmp_path, SMALLEST)
    assert config == Config(
        home=tmp_path,
        pools={
            "x": PoolConfig(
                name="x",
                type="refresh_token",
                hosts=(HostPattern(host="api.example.com"),),
                client=ClientConfig(client_id="me", client_secret=None, client_auth="none"),
                token_url="https://op.example/token",
                inject=HeaderInjection(header="Authorization", template="Bearer {token}"),
                rotation="round_robin",
                allow_plaintext=False,
            )
        },
        gateway=GatewayConfig(client_keys="auto", max_accounts=3, fast_dispatch=True),
    )


def test_every_key_of_the_contract_is_read(tmp_path: Path) -> None:
    """A file that uses every key gives a pool that holds every value."""
    text = """
    [pools.google]
    type = "client_credentials"
    preset = "google"
    token_url = "https://op.example/token"
    authorize_url = "https://op.example/auth"
    device_url = "https://op.example/device"
    userinfo_url = "http://127.0.0.1:9/me"
    revoke_url = "http://[::1]:9/revoke"
    issuer = "https://op.example/tenant"
    client_id = "me"
    client_secret = "env:SECRET"
    client_auth = "client_secret_post"
    scopes = ["openid", "email"]
    hosts = ["Api.Example.com.", "*.example.org", "127.0.0.1:9000", "[::1]:9000", "api.example.com"]
    paths = ["/v1/*"]
    methods = ["get", "POST"]
    inject = { query = "key", value = "{token}" }
    rotation = "sticky"
    allow_plaintext = true
    codes = { gone = "invalid_grant" }
    authorize_params = { prompt = "select_account", audience = "api" }
    redirect_host = "localhost"
    redirect_ports = [8765, 8766]
    redirect_path = "/oauth/callback"

    [gateway]
    client_keys = "required"
    max_accounts = 20
    fast_dispatch = false
    health_path = "/authpool/health"
    """
    config = load(tmp_path, text, {"SECRET": "s3cret"})
    assert config.gateway == GatewayConfig(
        client_keys="required", max_accounts=20, fast_dispatch=False, health_path="/authpool/health"
    )
    pool = config.pools["google"]
    assert pool == PoolConfig(
        name="google",
        type="client_credentials",
        preset="google",
        token_url="https://op.example/token",
        authorize_url="https://op.example/auth",
        device_url="https://op.example/device",
        userinfo_url="http://127.0.0.1:9/me",
        revoke_url="http://[::1]:9/revoke",
        issuer="https://op.example/tenant",
        client=ClientConfig(client_id="me", client_secret="s3cret", client_auth="client_secret_post"),
        scopes=("openid", "email"),
        sign_in=SignInConfig(
            authorize_params={"access_type": "offline", "prompt": "select_account", "audience": "api"},
            redirect_host="localhost",
            redirect_ports=(8765, 8766),
            redirect_path="/oauth/callback",
            issuers=("https://op.example/tenant",),
        ),
        hosts=(
            HostPattern(host="api.example.com"),
            HostPattern(host="example.org", wildcard=True),
            HostPattern(host="127.0.0.1", port=9000),
            HostPattern(host="::1", port=9000),
        ),
        paths=("/v1/*",),
        methods=("GET", "POST"),
        inject=QueryInjection(parameter="key", template="{token}"),
        rotation="sticky",
        allow_plaintext=True,
        codes=pool.codes,
    )
    assert pool.codes["gone"] == "invalid_grant"


def test_a_file_without_pools_is_a_gateway_without_pools(tmp_path: Path) -> None:
    """What `authpool init` writes loads before anything has been filled in."""
    assert load(tmp_path, "# nothing yet\n").pools == {}


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    """Some editors put one at the start of a UTF-8 file."""
    write(tmp_path, "").write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert set(load_config(tmp_path, {}).pools) == {"x"}


def test_the_configuration_is_frozen(tmp_path: Path) -> None:
    """Nobody changes a configuration that others are reading."""
    config = load(tmp_path, SMALLEST)
    with pytest.raises(FrozenInstanceError):
        config.pools["x"].name = "y"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.pools["y"] = config.pools["x"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("inject", "rendered"),
    (
        ("", "Bearer t"),
        ('inject = { header = "x-api-key", value = "{token}" }', "t"),
        ('inject = { header = "Authorization", value = "token {token};v=1" }', "token t;v=1"),
        ('inject = { query = "key", value = "{token}" }', "t"),
    ),
)
def test_the_injection_renders_the_token_in_its_place(tmp_path: Path, inject: str, rendered: str) -> None:
    """The template's {token} becomes the token, and nothing else changes."""
    assert load(tmp_path, SMALLEST + inject).pools["x"].inject.render("t") == rendered


def test_a_token_that_looks_like_the_placeholder_is_put_in_once() -> None:
    """What a provider sends is data, never a template."""
    assert HeaderInjection().render("{token}") == "Bearer {token}"


def pool(extra: str) -> str:
    return SMALLEST + extra


def bare(lines: str) -> str:
    return f"[pools.x]\n{lines}"


HOST_REMEDY = 'Write it as "api.example.com", "*.example.com", "127.0.0.1:9000" or "[::1]:9000".'
URL_REMEDY = "Write the URL as the provider documents it."
HTTPS_REMEDY = "Use https://; http:// is for loopback only."
INJECT_REMEDY = 'Write `inject = { header = "Authorization", value = "Bearer {token}" }`.'
BASIC_REMEDY = 'Write `inject = { basic = "x-access-token:{token}" }`.'
NOT_A_HOST = "is not a host, or its port is not a number."
NOT_A_NAME = "is not a host name or address; `*.` may only stand in front."

MISTAKES = [
    # unknown keys and tables
    (pool('token_ulr = "x"'), "pools.x.token_ulr", "there is no such key.", "Did you mean `token_url`?"),
    ("[gatway]", "gatway", "there is no such table.", "Did you mean `gateway`?"),
    ("qqq = 1", "qqq", "there is no such key.", "Known here: gateway, plugins, pools."),
    (
        "[gateway]\nmax_acounts = 3",
        "gateway.max_acounts",
        "there is no such key.",
        "Did you mean `max_accounts`?",
    ),
    (
        pool('inject = { heade = "a", value = "{token}" }'),
        "pools.x.inject.heade",
        "there is no such key.",
        "Did you mean `header`?",
    ),
    # types
    (bare("client_id = 5"), "pools.x.client_id", None, None),
    (pool("paths = 3"), "pools.x.paths", "must be an array of strings, not a whole number.", None),
    (
        pool('paths = ["/a", 3]'),
        "pools.x.paths[1]",
        "must be a string, not a whole number.",
        'Write it as "...".',
    ),
    (
        pool('allow_plaintext = "yes"'),
        "pools.x.allow_plaintext",
        "must be true or false, not a string.",
        "Write `allow_plaintext = true`.",
    ),
    (
        pool("rotation = 2020-01-01"),
        "pools.x.rotation",
        "must be a string, not a date or time.",
        'Write `rotation = "..."`.',
    ),
    ("pools = 1", "pools", "must be a table, not a whole number.", "Write `pools = { ... }`."),
    ("[pools]\nx = 1.5", "pools.x", "must be a table, not a decimal number.", "Write `x = { ... }`."),
    (
        "[gateway]\nmax_accounts = true",
        "gateway.max_accounts",
        "must be a whole number, not a boolean.",
        "Write `max_accounts = 3`.",
    ),
    # ranges and choices
    (
        "[gateway]\nmax_accounts = 0",
        "gateway.max_accounts",
        "is out of range: 1 to 20.",
        "Write `max_accounts = 3` for the default.",
    ),
    *(
        (
            f"[gateway]\nhealth_path = '{path}'",
            "gateway.health_path",
            'is not a path that begins with "/", without a query.',
            'Write it as "/authpool/health", or remove the line.',
        )
        for path in ("health", "http://x/health", "/a?b", "/a b", "/é")
    ),
    ("[gateway]\nmax_accounts = 21", "gateway.max_accounts", "is out of range: 1 to 20.", None),
    (
        '[gateway]\nclient_keys = "require"',
        "gateway.client_keys",
        'is none of "auto", "required", "off".',
        "Did you mean `required`?",
    ),
    (
        pool('type = "refresh"'),
        "pools.x.type",
        'is none of "refresh_token", "client_credentials", "static", and no plugin provides it.',
        "Did you mean `refresh_token`?",
    ),
    (
        pool('preset = "gogle"'),
        "pools.x.preset",
        "there is no such preset.",
        "Did you mean `google`?",
    ),
    (
        pool('preset = "zzz"'),
        "pools.x.preset",
        "there is no such preset.",
        "There are: google, microsoft, github_app, gitlab, okta, auth0, slack, salesforce.",
    ),
    (pool('rotation = ""'), "pools.x.rotation", "is empty.", "Fill it in, or remove the line."),
    # pool names
    (
        '[pools."a/b"]',
        "pools.a/b",
        "is not a pool name: it names a folder, so small letters, digits, `_` and `-`, at most 64.",
        "Rename the table, such as [pools.my-pool].",
    ),
    ('[pools.".."]', "pools...", None, None),
    ("[pools.Google]", "pools.Google", None, None),
    ('[pools.""]', "pools.", None, None),
    # what is missing
    (
        bare('client_id = "a"\nhosts = ["h.example"]'),
        "pools.x.token_url",
        "is missing, and there is no `issuer` to discover it from.",
        "Add `token_url`, `issuer` or `preset`.",
    ),
    (
        bare('token_url = "https://h.example/"\nhosts = ["h.example"]'),
        "pools.x.client_id",
        "is missing.",
        "Add the id of the client you registered at the provider.",
    ),
    (
        bare('type = "static"'),
        "pools.x.hosts",
        "is missing or empty.",
        'Add the hosts that get the credential, such as `hosts = ["api.example.com"]`.',
    ),
    (bare('type = "static"\nhosts = []'), "pools.x.hosts", "is missing or empty.", None),
    (
        bare('preset = "auth0"\nclient_id = "a"\nhosts = ["h.example"]'),
        "pools.x.issuer",
        "is missing, and this preset needs it.",
        'Add `issuer = "https://YOUR-TENANT.auth0.com/"`.',
    ),
    # URLs
    (
        pool('revoke_url = "http://op.example/"'),
        "pools.x.revoke_url",
        "is http://, and its host is not loopback.",
        HTTPS_REMEDY,
    ),
    (
        pool('revoke_url = "http://localhost.evil.example/"'),
        "pools.x.revoke_url",
        "is http://, and its host is not loopback.",
        HTTPS_REMEDY,
    ),
    (
        pool('revoke_url = "op.example/revoke"'),
        "pools.x.revoke_url",
        "is not a complete https:// URL.",
        HTTPS_REMEDY,
    ),
    (pool('revoke_url = "ftp://op.example/"'), "pools.x.revoke_url", "is not a complete https:// URL.", None),
    (pool('revoke_url = "https:///x"'), "pools.x.revoke_url", "is not a complete https:// URL.", None),
    (
        pool('revoke_url = "https://user:pw@op.example/"'),
        "pools.x.revoke_url",
        "has a user name or password in it.",
        URL_REMEDY,
    ),
    (pool('revoke_url = "https://@op.example/"'), "pools.x.revoke_url", None, None),
    (
        pool('revoke_url = "https://op.example/#a"'),
        "pools.x.revoke_url",
        "has a fragment (#...).",
        URL_REMEDY,
    ),
    (
        pool("revoke_url = 'https://op.example\\@evil.example/'"),
        "pools.x.revoke_url",
        "has a character in it that a URL can't have.",
        URL_REMEDY,
    ),
    (
        pool('revoke_url = "https://op.ex\\tample/"'),
        "pools.x.revoke_url",
        "has a character in it that a URL can't have.",
        None,
    ),
    (
        pool('revoke_url = "https://op.example:65536/"'),
        "pools.x.revoke_url",
        "names a port that there is not: 1 to 65535.",
        URL_REMEDY,
    ),
    (
        pool('revoke_url = "https://op.example:0/"'),
        "pools.x.revoke_url",
        "names a port that there is not: 1 to 65535.",
        URL_REMEDY,
    ),
    (pool('revoke_url = "https://[::1/"'), "pools.x.revoke_url", "is not a URL.", None),
    (
        pool('issuer = "https://op.example/?a=b"'),
        "pools.x.issuer",
        "has a query (?...), which an issuer never has.",
        URL_REMEDY,
    ),
    # clients
    (
        pool('client_auth = "client_secret_post"'),
        "pools.x.client_auth",
        "needs a client secret, and there is none.",
        'Add `client_secret`, or write `client_auth = "none"`.',
    ),
    (
        pool('client_auth = "none"\nclient_secret = "s"'),
        "pools.x.client_auth",
        "would never send the client secret that is given.",
        "Remove `client_secret`, or choose how to send it.",
    ),
    (
        pool('client_secret = "env:MISSING"'),
        "pools.x.client_secret",
        "the environment variable MISSING is not set, or is empty.",
        "Set MISSING where the gateway starts, or use file:PATH.",
    ),
    (
        pool('client_secret = "env:A-B"'),
        "pools.x.client_secret",
        "names no environment variable after `env:`.",
        'Write it as "env:NAME".',
    ),
    (
        pool('client_secret = "file:"'),
        "pools.x.client_secret",
        "names no file after `file:`.",
        'Write it as "file:PATH".',
    ),
    (pool('client_secret = "file:a\\u0000b"'), "pools.x.client_secret", "the file name is impossible.", None),
    (pool('client_secret = ""'), "pools.x.client_secret", "is empty.", "Fill it in, or remove the line."),
    (
        pool('scopes = ["openid email"]'),
        "pools.x.scopes[0]",
        "is empty, or has a space or a character that a scope can't have.",
        "Write one scope per string.",
    ),
    # static pools
    *[
        (
            bare(f'type = "static"\nhosts = ["h.example"]\n{key} = {value}'),
            f"pools.x.{key}",
            "means nothing here: a static pool refreshes nothing, its accounts are fixed secrets.",
            "Remove the line, or choose another `type`.",
        )
        for key, value in [
            ("token_url", '"https://h.example/"'),
            ("client_id", '"a"'),
            ("preset", '"google"'),
            ("issuer", '"https://h.example/"'),
            ("codes", '{ a = "invalid_grant" }'),
        ]
    ],
    # hosts
    (
        bare('type = "static"\nhosts = ["*"]'),
        "pools.x.hosts[0]",
        "would hand the credential to every host there is.",
        HOST_REMEDY,
    ),
    *[
        (
            bare(f'type = "static"\nhosts = ["ok.example", {host!r}]'),
            "pools.x.hosts[1]",
            problem,
            HOST_REMEDY,
        )
        for host, problem in [
            ("https://h.example", "is a URL, not a host."),
            ("h.example/v1", "is a URL, not a host."),
            ("me@h.example", "is a URL, not a host."),
            ("::1", NOT_A_HOST),
            ("h.example:", NOT_A_HOST),
            ("h.example:http", NOT_A_HOST),
            ("", NOT_A_HOST),
            ("*:443", NOT_A_NAME),
            ("*.", NOT_A_HOST),
            ("*.*.example", NOT_A_NAME),
            ("api*.example", NOT_A_NAME),
            ("h..example", NOT_A_NAME),
            ("h example", NOT_A_NAME),
            ("[fe80::1%eth0]", NOT_A_NAME),
            ("[h.example]", NOT_A_NAME),
            ("a" * 64 + ".example", NOT_A_NAME),
            ("h.example:0", "has a port that is not within 1 to 65535."),
            ("h.example:65536", "has a port that is not within 1 to 65535."),
            ("*.0.0.1", "puts `*.` in front of an address."),
            ("*.[::1]", "puts `*.` in front of an address."),
        ]
    ],
    # paths and methods
    *[
        (pool(f"paths = ['{path}']"), "pools.x.paths[0]", problem, 'Write it as "/v1/models" or "/v1/*".')
        for path, problem in [
            ("v1", "does not begin with a slash."),
            ("", "does not begin with a slash."),
            ("/v1?a=b", "has a query, a space or a character that must be percent-encoded."),
            ("/v 1", "has a query, a space or a character that must be percent-encoded."),
            ("/ü", "has a query, a space or a character that must be percent-encoded."),
            ("/v1/../x", "has dot segments or encoded slashes; no request would match it."),
            ("/v1%2Fx", "has dot segments or encoded slashes; no request would match it."),
            ("/v1/a*b", "has a `*` that is neither a whole segment nor at the end."),
            ("/v1*/x", "has a `*` that is neither a whole segment nor at the end."),
            ("/v1/**", "has a `*` that is neither a whole segment nor at the end."),
        ]
    ],
    (pool('methods = ["G T"]'), "pools.x.methods[0]", "is not an HTTP method.", 'Write it as "GET".'),
    # injection
    (pool("inject = {}"), "pools.x.inject", "must have one of `header`, `query` and `basic`.", INJECT_REMEDY),
    (
        pool('inject = { header = "a", query = "b", value = "{token}" }'),
        "pools.x.inject",
        "must have one of `header`, `query` and `basic`.",
        INJECT_REMEDY,
    ),
    (pool('inject = { header = "a" }'), "pools.x.inject.value", "is missing.", INJECT_REMEDY),
    *[
        (
            pool(f'inject = {{ header = "{header}", value = "{{token}}" }}'),
            "pools.x.inject.header",
            "is a header that belongs to the connection, not to the credential.",
            "Use `Authorization`, or the header the API documents.",
        )
        for header in ("Host", "content-length", "Transfer-Encoding", "CONNECTION", "Proxy-Authorization")
    ],
    *[
        (
            pool(f'inject = {{ header = "{header}", value = "{{token}}" }}'),
            "pools.x.inject.header",
            "is not a header name.",
            'Write it as `header = "Authorization"`.',
        )
        for header in ("x y", "x:", ":authority", "x\\r\\ny", "ü")
    ],
    (pool('inject = { query = "a&b", value = "{token}" }'), "pools.x.inject.query", None, None),
    *[
        (pool(f"inject = {{ {inject} }}"), f"pools.x.inject.{key}", problem, remedy)
        for inject, key, problem, remedy in [
            ('basic = "token"', "basic", "must hold {token} exactly once.", BASIC_REMEDY),
            ('basic = "{token}"', "basic", "has no colon between user and password.", BASIC_REMEDY),
            ('basic = "a:{token}{token}"', "basic", "must hold {token} exactly once.", BASIC_REMEDY),
            (
                'basic = "a\\n:{token}"',
                "basic",
                "has a line end or another character no header can have.",
                BASIC_REMEDY,
            ),
            ('basic = "a:{token}", header = "A"', "header", "means nothing beside `basic`.", "Remove one of them."),
            ('basic = "a:{token}", value = "A"', "value", "means nothing beside `basic`.", "Remove one of them."),
        ]
    ],
    *[
        (
            pool(f'inject = {{ header = "a", value = "{value}" }}'),
            "pools.x.inject.value",
            problem,
            INJECT_REMEDY,
        )
        for value, problem in [
            ("Bearer", "must hold {token} exactly once."),
            ("{token} {token}", "must hold {token} exactly once."),
            ("{tokn}", "must hold {token} exactly once."),
            ("{token}\\r\\nx: y", "has a line end or another character no header can have."),
        ]
    ],
    # codes
    (
        pool('codes = { gone = "invalid_grnt" }'),
        "pools.x.codes.gone",
        None,
        "Did you mean `invalid_grant`?",
    ),
    (pool("codes = { gone = 1 }"), "pools.x.codes.gone", "must be a string, not a whole number.", None),
]


@pytest.mark.parametrize(("text", "where", "problem", "remedy"), MISTAKES)
def test_a_mistake_is_told_with_file_key_and_remedy(
    tmp_path: Path, text: str, where: str, problem: str | None, remedy: str | None
) -> None:
    """Each mistake names the key it is at, what is wrong and what to do (None: any wording will do)."""
    error = refusal(tmp_path, text)
    assert error.where == f"authpool.toml: {where}"
    assert error.problem == (problem or error.problem)
    assert error.remedy == (remedy or error.remedy)
    assert error.problem.endswith(".")
    assert error.remedy
    assert str(error) == f"{error.where}: {error.problem} {error.remedy}"


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    (
        ('[pools.x]\nclient_id = "a', "authpool.toml: end of document", None),
        ('[pools.x]\nclient_id = "a\n', "authpool.toml: line 2, column 15", None),
        ("[pools.x]\nhosts = [\n", "authpool.toml: end of document", None),
        ("a = 1\na = 2\n", "authpool.toml: line 2, column 6", "is not valid TOML: Cannot overwrite a value."),
        ("a = " + "[" * 100_000, "authpool.toml", None),
    ),
)
def test_a_file_that_is_not_toml_is_told_by_line(tmp_path: Path, text: str, where: str, problem: str | None) -> None:
    """A file cut in half, or mistyped, names the place where reading stopped."""
    error = refusal(tmp_path, text)
    assert error.where.startswith(where)
    assert error.problem == (problem or error.problem)


def test_a_file_in_another_encoding_is_told_by_line(tmp_path: Path) -> None:
    """Latin-1 in line 2 is said to be in line 2."""
    write(tmp_path, "").write_bytes(b"# one\n# \xfc\n")
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path, {})
    assert (caught.value.where, caught.value.problem) == ("authpool.toml: line 2", "is not UTF-8 text.")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    """The first start of all ends in a pointer to `authpool init`."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path, {})
    assert caught.value.where == CONFIG_NAME
    assert caught.value.problem == f"there is none in {tmp_path}."
    assert "authpool init" in caught.value.remedy


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    """What the system says about the file is passed on."""
    (tmp_path / CONFIG_NAME).mkdir()
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("second", "ties"),
    (
        ('hosts = ["API.example.com"]', True),
        ('hosts = ["b.example", "api.example.com"]', True),
        ('hosts = ["api.example.com:443"]', False),
        ('hosts = ["*.example.com"]', False),
        ('hosts = ["api.example.com"]\npaths = ["/v1/*"]', False),
        ('hosts = ["api.example.com"]\nmethods = ["POST"]', True),
    ),
)
def test_pools_that_would_tie_are_refused_by_name(tmp_path: Path, second: str, *, ties: bool) -> None:
    """Two pools between which nothing decides are a mistake that names both."""
    text = f'[pools.a]\ntype = "static"\nhosts = ["api.example.com"]\n[pools.b]\ntype = "static"\n{second}'
    if not ties:
        assert set(load(tmp_path, text).pools) == {"a", "b"}
        return
    error = refusal(tmp_path, text)
    assert error.where == "authpool.toml: pools.b.hosts"
    assert error.problem.startswith("ties with pools.a for api.example.com:")


@pytest.mark.parametrize("written", ("s3cret", "s3cret\n", "  s3cret\r\n"))
def test_a_secret_file_gives_its_content_without_line_ends(tmp_path: Path, written: str) -> None:
    """A path without a leading slash starts at the home; what `echo` and editors add is dropped."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/google").write_text(written)
    (tmp_path / "secrets/google").chmod(0o600)
    client = load(tmp_path, pool('client_secret = "file:secrets/google"')).pools["x"].client
    assert client == ClientConfig(client_id="me", client_secret="s3cret", client_auth="client_secret_basic")


def test_a_secret_file_may_be_anywhere(tmp_path: Path) -> None:
    """An absolute path is taken as it is."""
    file = tmp_path / "secret"
    file.write_text("s3cret")
    file.chmod(0o600)
    (tmp_path / "home").mkdir()
    client = load(tmp_path / "home", pool(f'client_secret = "file:{file}"')).pools["x"].client
    assert client is not None
    assert client.client_secret == "s3cret"


@pytest.mark.parametrize("case", ("readable by others", "symbolic link", "missing", "empty", "folder"))
def test_a_secret_file_that_is_not_private_is_refused_by_name(tmp_path: Path, case: str) -> None:
    """A secret that others can read, that may be swapped, or that is not there, stops the gateway."""
    file = tmp_path / "secret"
    target = tmp_path / "target"
    target.write_text("s3cret")
    target.chmod(0o600)
    if case == "readable by others":
        file.write_text("s3cret")
        file.chmod(0o640)
    elif case == "symbolic link":
        file.symlink_to(target)
    elif case == "empty":
        file.write_text(" \n")
        file.chmod(0o600)
    elif case == "folder":
        file.mkdir(0o700)
    error = refusal(tmp_path, pool('client_secret = "file:secret"'))
    assert error.where == "authpool.toml: pools.x.client_secret"
    assert str(file) in error.problem
    assert "0600" in error.remedy
    assert "s3cret" not in str(error)


@pytest.mark.parametrize(
    ("secret", "mode", "accepted"),
    (
        ("s3cret", 0o600, True),
        ("s3cret", 0o400, True),
        ("s3cret", 0o640, False),
        ("s3cret", 0o604, False),
        ("env:SECRET", 0o644, True),
    ),
)
def test_a_file_that_others_can_read_may_not_hold_a_secret(
    tmp_path: Path, secret: str, mode: int, *, accepted: bool
) -> None:
    """Only a secret written out in authpool.toml makes its mode matter."""
    path = write(tmp_path, pool(f'client_secret = "{secret}"'), mode)
    if accepted:
        assert load_config(tmp_path, {"SECRET": "s3cret"}).pools["x"].client is not None
        return
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path, {})
    assert caught.value.where == "authpool.toml: pools.x.client_secret"
    assert caught.value.problem == f"is written out in a file that is open to others (mode {mode:04o})."
    assert f"chmod 600 '{path}'" in caught.value.remedy
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("secret", "accepted"), (("s3cret", False), ("env:SECRET", True)))
def test_a_linked_file_may_not_hold_a_secret(tmp_path: Path, secret: str, *, accepted: bool) -> None:
    """A link to a file kept elsewhere is fine as long as no secret stands in it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / CONFIG_NAME).symlink_to(write(elsewhere, pool(f'client_secret = "{secret}"')))
    if accepted:
        assert set(load_config(tmp_path, {"SECRET": "s3cret"}).pools) == {"x"}
        return
    with pytest.raises(ConfigurationError, match="written out in a file that is a symbolic link"):
        load_config(tmp_path, {})


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """Neither the repr of a configuration nor a mistake about a value repeats it."""
    config = load(tmp_path, pool('client_secret = "env:SECRET"'), {"SECRET": "s3cret"})
    assert "s3cret" not in repr(config)
    misplaced = refusal(tmp_path, pool('client_auth = "s3cret"\nclient_secret = "x"'))
    assert "s3cret" not in str(misplaced)
    cut = refusal(tmp_path, pool('client_secret = "s3cret\n'))
    assert "s3cret" not in str(cut)
    assert cut.__cause__ is None
