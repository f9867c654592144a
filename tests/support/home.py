"""A home for the gateway as design and operators would lay it out: `authpool.toml` and account files."""

import os
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import tomli_w

type Document = dict[str, Any]


def make_home(
    folder: Path,
    *,
    pools: Mapping[str, Mapping[str, Any]],
    accounts: Mapping[str, Mapping[str, Any]] | None = None,
    gateway: Mapping[str, Any] | None = None,
) -> Path:
    """Write a home at `folder`/home and return it.

    `pools` and `gateway` are the tables of `authpool.toml`; `accounts` goes from ``POOL/NAME`` to what its
    file says besides `version`, `name`, `generation` and `created_at`: most often ``{"token": token_table(...)}``.
    """
    home = folder / "home"
    for part in (home, home / "accounts", home / "clients", home / "plugins"):
        _make_folder(part)
    write_configuration(home, pools=pools, gateway=gateway)
    for address, document in (accounts or {}).items():
        write_account(home, address, document)
    return home


def write_configuration(
    home: Path, *, pools: Mapping[str, Mapping[str, Any]], gateway: Mapping[str, Any] | None = None
) -> Path:
    """Write, or write anew, the home's `authpool.toml`."""
    tables: Document = {"pools": {name: dict(table) for name, table in pools.items()}}
    if gateway is not None:
        tables["gateway"] = dict(gateway)
    path = home / "authpool.toml"
    _write_private(path, tomli_w.dumps(tables))
    return path


def write_account(home: Path, address: str, document: Mapping[str, Any]) -> Path:
    """Write an account's file in one step, as an operator's script would: aside, then renamed into place."""
    pool, _, name = address.partition("/")
    _make_folder(home / "accounts" / pool)
    path = account_path(home, address)
    full = {"version": 1, "name": name, "generation": 1, "created_at": 1_700_000_000, **document}
    aside = path.with_name(f".{path.name}.new")
    _write_private(aside, tomli_w.dumps(full))
    aside.replace(path)
    return path


def account_path(home: Path, address: str) -> Path:
    """Find the account's file by its decoded name, or tell where a new one goes."""
    pool, _, name = address.partition("/")
    folder = home / "accounts" / pool
    for path in folder.glob("*.toml"):
        if unquote(path.stem).casefold() == name.casefold():
            return path
    encoded = quote(name, safe="@+~")
    return folder / f"{'%2E' + encoded[1:] if encoded.startswith('.') else encoded}.toml"


def read_account(home: Path, address: str) -> Document:
    """Read an account's file. Raises FileNotFoundError."""
    return tomllib.loads(account_path(home, address).read_text("utf-8"))


def token_table(response: Mapping[str, Any], *, now: float | None = None) -> Document:
    """Turn a token response (RFC 6749 §5.1) into the `[token]` table of an account file.

    `expires_in` counts from `now` (default: the machine's clock).
    """
    kept = ("access_token", "refresh_token", "token_type", "scope")
    table: Document = {key: response[key] for key in kept if key in response}
    if "expires_in" in response:
        table["expires_at"] = int((time.time() if now is None else now) + response["expires_in"])
    return table


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    path.chmod(0o600)
