"""How people sign in for a pool: what the authorization request carries, and where its answer comes to."""

import re

from authpool.config.config_table import ConfigTable, mistake
from authpool.config.pool_config import SignInConfig
from authpool.config.presets import Preset

SIGN_IN_KEYS = ("authorize_params", "redirect_host", "redirect_ports", "redirect_path")

OWN_PARAMETERS = frozenset(
    {
        "client_id",
        "client_secret",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "request",
        "request_uri",
        "response_mode",
        "response_type",
        "scope",
        "state",
    }
)
"""What an authorization request says by itself (RFC 6749 §4.1.1, RFC 7636 §4.3, OpenID Connect Core 1.0 §3.1.2.1)."""

_REDIRECT_HOSTS = ("127.0.0.1", "localhost")
_REDIRECT_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_LOWEST_PORT, _HIGHEST_PORT = 1, 65535


def read_sign_in(table: ConfigTable, preset: Preset, issuer: str | None) -> SignInConfig:
    """Read the keys of a pool's table that a sign-in looks at, on top of what the preset knows."""
    return SignInConfig(
        issuers=preset.issuers if issuer is None else (issuer,),
        refresh_scope=preset.refresh_scope,
        authorize_params={**preset.authorize_params, **_authorize_params(table)},
        redirect_host=table.take_choice("redirect_host", _REDIRECT_HOSTS, "127.0.0.1"),
        redirect_ports=_redirect_ports(table),
        redirect_path=_redirect_path(table),
    )


def _authorize_params(table: ConfigTable) -> dict[str, str]:
    given = table.take_table("authorize_params")
    params = ConfigTable.unchecked(given, table.at("authorize_params"))
    read: dict[str, str] = {}
    for name in given:
        if name in OWN_PARAMETERS:
            problem = "is a parameter that a sign-in sets itself."
            raise mistake(params.at(name), problem, "Remove it; scopes are the pool's `scopes`.")
        read[name] = params.take(name, str, "")  # empty: without what the preset has
    return read


def _redirect_ports(table: ConfigTable) -> tuple[int, ...]:
    ports = table.take("redirect_ports", list, default=[])
    for index, port in enumerate(ports):
        if type(port) is not int or not _LOWEST_PORT <= port <= _HIGHEST_PORT:
            remedy = "Write the ports that are registered at the provider, such as [8765]; without, any free one."
            raise mistake(table.item("redirect_ports", index), "is not a port, 1 to 65535.", remedy)
    return tuple(dict.fromkeys(ports))


def _redirect_path(table: ConfigTable) -> str:
    path = table.take_string("redirect_path")
    if path is None:
        return SignInConfig().redirect_path
    if not _REDIRECT_PATH.fullmatch(path):
        problem = "is not a plain path."
        raise mistake(table.at("redirect_path"), problem, 'Write it as the provider knows it, such as "/callback".')
    return path
