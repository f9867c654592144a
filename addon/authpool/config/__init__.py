"""authpool.toml, read into frozen types; each mistake is answered with file, key and remedy.

The file is written by people and never by the program. It may be a symbolic link, and others may read it, as
long as no client secret stands in it: a secret is better off in the environment or a file of its own. Nobody else may
be able to change or exchange it.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from authpool.config.client_secret import is_literal
from authpool.config.config_table import CONFIG_NAME, ConfigTable, mistake
from authpool.config.extensions import BUILT_IN, Extensions
from authpool.config.host_pattern import HostPattern
from authpool.config.named_option import read_named
from authpool.config.pool_config import (
    BasicInjection,
    ClientAuth,
    ClientConfig,
    HeaderInjection,
    PluginInjection,
    PoolConfig,
    PoolType,
    QueryInjection,
)
from authpool.config.pool_table import read_pool
from authpool.config.reach_table import REACH_KEYS, Unmatched, read_allow_local, read_listener_names, read_unmatched
from authpool.config.routing import find_tie
from authpool.config.seal_key import SealKey, read_seal_key
from authpool.errors import ConfigurationError, RefusedError
from authpool.files.strict_modes import check_way, trusted_users

__all__ = [
    "CONFIG_NAME",
    "BasicInjection",
    "ClientAuth",
    "ClientConfig",
    "ClientKeys",
    "Config",
    "Extensions",
    "GatewayConfig",
    "HeaderInjection",
    "HostPattern",
    "PluginInjection",
    "PoolConfig",
    "PoolType",
    "QueryInjection",
    "Unmatched",
    "load_config",
]

type ClientKeys = Literal["auto", "required", "off"]

_PLAIN_PATH = re.compile(r"/[^\x00-\x20?#\x7f-\U0010ffff]*")
_SYNTAX_PLACE = re.compile(r" \(at (?P<place>[^()]*)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """``[gateway]``: `client_keys` are asked for always, never, or (auto) unless all listeners are local.

    `health_path` is the path that answers the gateway's health in reverse mode; None: there is none. `store` is where
    the accounts are kept, by name, and `store_options` what stands beside it, for the plugin that provides it.
    `listener_names` are what clients may call the listeners beside their addresses. `unmatched` is what becomes of
    requests of no pool; None: nothing was said, so it depends on who asks. `allow_local`: other machines' clients may
    reach addresses that only this machine and its network should.
    `seal_key` is where the key is that seals their secrets; None: they are not sealed.
    """

    client_keys: ClientKeys = "auto"
    max_accounts: int = 3
    fast_dispatch: bool = True
    health_path: str | None = None
    seal_key: SealKey | None = None
    store: str = "folder"
    store_options: Mapping[str, Any] = field(default_factory=dict)
    listener_names: tuple[HostPattern, ...] = ()
    unmatched: Unmatched | None = None
    allow_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that authpool.toml says; no two of the pools would tie for a request."""

    home: Path
    pools: Mapping[str, PoolConfig]
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``[plugins.NAME]``, as written: each is its plugin's to read."""


def load_config(
    home: Path, environ: Mapping[str, str], extensions: Extensions = BUILT_IN, *, secrets_later: bool = False
) -> Config:
    """Read `home`/authpool.toml; `environ` is where ``env:NAME`` secrets are looked up, now or when one is needed.

    Raises ConfigurationError. Pools may be absent: a gateway without any serves no credential. The extensions are
    configured before they are asked, as soon as the file can be read at all.
    """
    document, open_to_others = _read(home / CONFIG_NAME)
    top = ConfigTable(document, (), ("pools", "gateway", "plugins"))
    plugins = _plugins(top)
    extensions.configure(plugins, home)
    tables = top.take_table("pools")
    _refuse_exposed_secret(tables, home / CONFIG_NAME, open_to_others)
    pools = {
        name: read_pool(name, table, home, environ, extensions, secrets_later=secrets_later)
        for name, table in tables.items()
    }
    _refuse_ties(pools)
    gateway = _gateway(top, home, environ)
    return Config(home=home, pools=MappingProxyType(pools), gateway=gateway, plugins=MappingProxyType(plugins))


def _read(path: Path) -> tuple[dict[str, Any], str | None]:
    """Answer the document, and why others can read the file, where they can."""
    try:
        check_way(path, trusted_users(path.parent))
    except RefusedError as error:
        remedy = "Whoever can change it decides where credentials go, and which plugins run."
        raise ConfigurationError(CONFIG_NAME, f"can't be relied on: {error}.", remedy) from None
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read()
    except FileNotFoundError:
        remedy = "Run `authpool init`, which writes one to start from."
        raise ConfigurationError(CONFIG_NAME, f"there is none in {path.parent}.", remedy) from None
    except OSError as error:
        remedy = f"Make {path} a file that you can read."
        raise ConfigurationError(CONFIG_NAME, f"can't be read: {error.strerror}.", remedy) from error
    exposure = f"is open to others (mode {mode:04o})" if mode & 0o077 else None
    return _parse(data), "is a symbolic link" if path.is_symlink() else exposure


def _parse(data: bytes) -> dict[str, Any]:
    remedy = "Correct it; see https://toml.io for the format."
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = "is not UTF-8 text."
        raise ConfigurationError(f"{CONFIG_NAME}: line {line}", problem, "Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        # Not chained: a newer tomllib keeps the whole document in the error, secrets included.
        match = _SYNTAX_PLACE.search(str(error))
        where = f"{CONFIG_NAME}: {match['place']}" if match else CONFIG_NAME
        problem = f"is not valid TOML: {_SYNTAX_PLACE.sub('', str(error))}."
        raise ConfigurationError(where, problem, remedy) from None
    except (ValueError, OverflowError):  # what tomllib passes on as it comes
        raise ConfigurationError(CONFIG_NAME, "has a number that is too long to read.", remedy) from None
    except RecursionError:
        raise ConfigurationError(CONFIG_NAME, "is nested too deeply.", remedy) from None


def _refuse_exposed_secret(tables: Mapping[str, object], path: Path, exposure: str | None) -> None:
    if exposure is None:
        return
    for name, table in tables.items():
        secret = table.get("client_secret") if isinstance(table, dict) else None
        if isinstance(secret, str) and secret and is_literal(secret):
            cure = "Put the file itself there" if path.is_symlink() else f"Run: chmod 600 '{path}'"
            raise mistake(
                ("pools", name, "client_secret"),
                f"is written out in a file that {exposure}.",
                f"{cure}, or move the secret to env:NAME or file:PATH.",
            )


def _refuse_ties(pools: Mapping[str, PoolConfig]) -> None:
    tie = find_tie(pools.values())
    if tie is not None:
        first, second, host = tie
        raise mistake(
            ("pools", second.name, "hosts"),
            f"ties with pools.{first.name} for {host}: neither host, path nor method decides between them.",
            "Set them apart by `hosts`, `paths` or `methods`.",
        )


def _gateway(top: ConfigTable, home: Path, environ: Mapping[str, str]) -> GatewayConfig:
    known = ("client_keys", "max_accounts", "fast_dispatch", "health_path", "seal_key", "store", *REACH_KEYS)
    table = ConfigTable(top.take_table("gateway"), ("gateway",), known)
    store, store_options = read_named(table, "store", "folder")
    client_keys = table.take_choice("client_keys", get_args(ClientKeys.__value__), "auto")
    return GatewayConfig(
        client_keys=cast("ClientKeys", client_keys),
        max_accounts=table.take_whole("max_accounts", default=3, low=1, high=20),
        fast_dispatch=table.take("fast_dispatch", bool, default=True),
        health_path=_health_path(table),
        seal_key=read_seal_key(table, home, environ),
        store=store,
        store_options=store_options,
        listener_names=read_listener_names(table),
        unmatched=read_unmatched(table),
        allow_local=read_allow_local(table),
    )


def _plugins(top: ConfigTable) -> dict[str, dict[str, Any]]:
    tables = ConfigTable.unchecked(top.take_table("plugins"), ("plugins",))
    return {name: tables.take_table(name) for name in top.take_table("plugins")}


def _health_path(table: ConfigTable) -> str | None:
    path = table.take_string("health_path")
    if path is not None and not _PLAIN_PATH.fullmatch(path):
        raise mistake(
            table.at("health_path"),
            'is not a path that begins with "/", without a query.',
            'Write it as "/authpool/health", or remove the line.',
        )
    return path
