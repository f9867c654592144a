"""A ``[pools.NAME]`` of authpool.toml becomes a PoolConfig, or a ConfigurationError."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from authpool.config.answer_rule import read_answer_rules
from authpool.config.client_table import read_client
from authpool.config.config_table import ConfigTable, KeyPath, did_you_mean, mistake
from authpool.config.endpoint_url import check_endpoint, check_issuer
from authpool.config.error_codes import CLIENT_CODES, SIGN_IN_CODES, TRANSIENT_CODES
from authpool.config.extensions import BUILT_IN, Extensions
from authpool.config.host_pattern import HostPattern
from authpool.config.injection import read_injection
from authpool.config.media_range import parse_media_range
from authpool.config.named_option import read_named
from authpool.config.origin import read_allowed_origins
from authpool.config.path_pattern import PathPattern
from authpool.config.pool_config import ECHOING_METHODS, PoolConfig, QuotaReserve
from authpool.config.pool_type import OAUTH_TYPES, read_type
from authpool.config.presets import PRESETS, Preset
from authpool.config.selector import Selector, parse_selector
from authpool.config.sign_in import SIGN_IN_KEYS, read_sign_in
from authpool.config.token_extras import EXTRA_KEYS, read_token_extras

STANDARD_CODES = frozenset({"invalid_grant"}) | CLIENT_CODES | SIGN_IN_CODES | TRANSIENT_CODES
"""What an error code may be mapped to: the codes of a token endpoint that authpool acts on."""

ENDPOINT_KEYS = ("token_url", "authorize_url", "device_url", "userinfo_url", "revoke_url")
_OAUTH_KEYS = (
    "preset",
    "issuer",
    *ENDPOINT_KEYS,
    "client_id",
    "client_secret",
    "client_auth",
    "scopes",
    "codes",
    "error_codes",
    *SIGN_IN_KEYS,
    "client_key",
    "client_key_id",
    "client_key_alg",
    "client_assertion_audience",
    *EXTRA_KEYS,
)
_COMMON_KEYS = (
    "type",
    "hosts",
    "paths",
    "methods",
    "inject",
    "rotation",
    "cooldown_by",
    "wait_seconds",
    "quota_reserve",
    "max_cooldown_seconds",
    "answers",
    "stream_types",
    "redact_echo",
    "allow_plaintext",
    "allowed_origins",
)

_POOL_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_METHOD = re.compile(r"[A-Za-z][A-Za-z-]*")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3
_PERCENT = re.compile(r"(\d{1,2}(?:\.\d+)?)\s*%")
_HTTPS = "Use https://; http:// is for loopback only."


def read_pool(
    name: str,
    document: object,
    home: Path,
    environ: Mapping[str, str],
    extensions: Extensions = BUILT_IN,
    *,
    secrets_later: bool = False,
) -> PoolConfig:
    """Read one pool, with its preset and its client secret filled in; or (`secrets_later`) where that is."""
    path: KeyPath = ("pools", name)
    if not _POOL_NAME.fullmatch(name):
        problem = "is not a pool name: it names a folder, so small letters, digits, `_` and `-`, at most 64."
        raise mistake(path, problem, "Rename the table, such as [pools.my-pool].")
    table = ConfigTable(document, path, (*_COMMON_KEYS, *_OAUTH_KEYS))
    pool_type, type_options = read_type(table, extensions)
    is_oauth = pool_type in OAUTH_TYPES
    if not is_oauth:
        _refuse_oauth_keys(table, pool_type)
    preset_name, preset = _preset(table, extensions)
    issuer = _issuer(table, preset)
    endpoints = _endpoints(table, preset if issuer is None else Preset())
    client = read_client(table, preset, home, environ, secrets_later=secrets_later) if is_oauth else None
    if is_oauth and issuer is None and endpoints["token_url"] is None:
        problem = "is missing, and there is no `issuer` to discover it from."
        raise mistake(table.at("token_url"), problem, "Add `token_url`, `issuer` or `preset`.")
    rotation, rotation_options = _rotation(table)
    return PoolConfig(
        name=name,
        type=pool_type,
        type_options=type_options,
        hosts=_hosts(table),
        paths=_checked_strings(table, "paths", PathPattern.parse, 'Write it as "/v1/models" or "/v1/*".'),
        methods=tuple(method.upper() for method in _methods(table)),
        client=client,
        issuer=issuer,
        **endpoints,
        scopes=_checked_strings(table, "scopes", _check_scope, "Write one scope per string."),
        sign_in=read_sign_in(table, preset, issuer),
        inject=read_injection(table, extensions, pool_type, type_options),
        rotation=rotation,
        rotation_options=rotation_options,
        cooldown_by=_cooldown_by(table),
        wait_seconds=table.take_whole("wait_seconds", default=0, low=0, high=300),
        quota_reserve=_quota_reserve(table),
        max_cooldown_seconds=table.take_whole("max_cooldown_seconds", default=300, low=1, high=2_678_400),
        answers=read_answer_rules(table),
        stream_types=_stream_types(table),
        redact_echo=table.take("redact_echo", bool, default=False),
        allow_plaintext=table.take("allow_plaintext", bool, default=False),
        allowed_origins=read_allowed_origins(table),
        codes=_codes(table, preset),
        token_extras=read_token_extras(table, home, environ, secrets_later=secrets_later),
        preset=preset_name,
        home=home,
    )


def _rotation(table: ConfigTable) -> tuple[str, dict[str, object]]:
    """Read ``"weighted"``, or ``{ name = "weighted", weights = { ... } }``: the options are the plugin's to read."""
    return read_named(table, "rotation", "round_robin")


def _cooldown_by(table: ConfigTable) -> Selector:
    text = table.take_string("cooldown_by") or "account"
    return parse_selector(text, table.at("cooldown_by"), "account", "path", "header", "json")


def _quota_reserve(table: ConfigTable) -> QuotaReserve | None:
    """Read so many requests, or a share of the whole as ``"5%"``."""
    if table.kind_of("quota_reserve") is not str:
        requests = table.take_whole("quota_reserve", default=0, low=0, high=1_000_000_000)
        return QuotaReserve(requests=requests) if requests else None
    percent = _PERCENT.fullmatch(table.take_string("quota_reserve") or "")
    if percent is None or not 0 < float(percent[1]) < 100:
        remedy = 'Write so many requests, as 50, or a share, as "5%".'
        raise mistake(table.at("quota_reserve"), "is neither a number of requests nor a share of the quota.", remedy)
    return QuotaReserve(share=float(percent[1]) / 100)


def _refuse_oauth_keys(table: ConfigTable, pool_type: str) -> None:
    why = "a static pool refreshes nothing, its accounts are fixed secrets"
    if pool_type != "static":
        why = f"a pool of type {pool_type} asks no token endpoint"
    for key in _OAUTH_KEYS:
        if key in table:
            raise mistake(table.at(key), f"means nothing here: {why}.", "Remove the line, or choose another `type`.")


def _preset(table: ConfigTable, extensions: Extensions) -> tuple[str | None, Preset]:
    name = table.take_string("preset")
    if name is None:
        return None, Preset()
    if name not in PRESETS:
        provided = extensions.preset(name)
        if provided is not None:
            return name, provided
        remedy = did_you_mean(name, PRESETS, f"There are: {', '.join(PRESETS)}.")
        raise mistake(table.at("preset"), "there is no such preset.", remedy)
    return name, PRESETS[name]


def _issuer(table: ConfigTable, preset: Preset) -> str | None:
    issuer = table.take_string("issuer")
    if issuer is not None:
        _check_url(issuer, table.at("issuer"), check_issuer)
    elif preset.issuer_example and "token_url" not in table:
        remedy = f'Add `issuer = "{preset.issuer_example}"`.'
        raise mistake(table.at("issuer"), "is missing, and this preset needs it.", remedy)
    return issuer


def _endpoints(table: ConfigTable, preset: Preset) -> dict[str, str | None]:
    endpoints: dict[str, str | None] = {}
    for key in ENDPOINT_KEYS:
        url = table.take_string(key)
        if url is not None:
            _check_url(url, table.at(key), check_endpoint)
        endpoints[key] = url or getattr(preset, key)
    return endpoints


def _check_url(url: str, path: KeyPath, check: Callable[[str], None]) -> None:
    try:
        check(url)
    except ValueError as error:
        remedy = _HTTPS if "http" in str(error) else "Write the URL as the provider documents it."
        raise mistake(path, str(error), remedy) from None


def _hosts(table: ConfigTable) -> tuple[HostPattern, ...]:
    remedy = 'Write it as "api.example.com", "*.example.com", "127.0.0.1:9000" or "[::1]:9000".'
    texts = _checked_strings(table, "hosts", HostPattern.parse, remedy)
    if not texts:
        remedy = 'Add the hosts that get the credential, such as `hosts = ["api.example.com"]`.'
        raise mistake(table.at("hosts"), "is missing or empty.", remedy)
    return tuple(dict.fromkeys(HostPattern.parse(text) for text in texts))


def _stream_types(table: ConfigTable) -> tuple[str, ...]:
    remedy = 'Write it as "text/plain", "text/*" or "*/*".'
    texts = _checked_strings(table, "stream_types", parse_media_range, remedy)
    return tuple(dict.fromkeys(parse_media_range(text) for text in texts))


def _methods(table: ConfigTable) -> tuple[str, ...]:
    return _checked_strings(table, "methods", _check_method, 'Write it as "GET".')


def _check_method(text: str) -> None:
    if not _METHOD.fullmatch(text):
        raise ValueError("is not an HTTP method.")
    if text.upper() in ECHOING_METHODS:
        raise ValueError("has an upstream repeat the request, the credential in it: it is always refused.")


def _check_scope(text: str) -> None:
    if not _SCOPE.fullmatch(text):
        raise ValueError("is empty, or has a space or a character that a scope can't have.")


def _checked_strings(table: ConfigTable, key: str, check: Callable[[str], object], remedy: str) -> tuple[str, ...]:
    texts = table.take_strings(key)
    for index, text in enumerate(texts):
        try:
            check(text)
        except ValueError as error:
            raise mistake(table.item(key, index), str(error), remedy) from None
    return texts


def _codes(table: ConfigTable, preset: Preset) -> dict[str, str]:
    """Read `codes`, or `error_codes`, which is another name for it; on top of what the preset knows."""
    key = "error_codes" if "error_codes" in table else "codes"
    if key == "error_codes" and "codes" in table:
        remedy = "Put all of them under one name."
        raise mistake(table.at(key), "is another name for `codes`, and both are there.", remedy)
    own = ConfigTable.unchecked(table.take_table(key), table.at(key))
    codes = dict(preset.codes)
    for code in table.take_table(key):
        codes[code] = own.take_choice(code, sorted(STANDARD_CODES), "")
    return codes
