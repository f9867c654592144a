"""The client of a pool: who it is, and how it proves itself at the token endpoint."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

from authpool.config.client_key import ClientKey, read_client_key
from authpool.config.client_secret import SecretSource
from authpool.config.config_table import ConfigTable, mistake
from authpool.config.pool_config import ClientAuth, ClientConfig
from authpool.config.presets import Preset

_CLIENT_ID = re.compile(r"[\x20-\x7e]+")  # RFC 6749 A.1


def read_client(
    table: ConfigTable, preset: Preset, home: Path, environ: Mapping[str, str], *, secrets_later: bool
) -> ClientConfig:
    """Read the client, its secret and its key; or (`secrets_later`) where they are. Raises ConfigurationError."""
    client_id = table.take_string("client_id")
    if client_id is None:
        remedy = "Add the id of the client you registered at the provider."
        raise mistake(table.at("client_id"), "is missing.", remedy)
    if not _CLIENT_ID.fullmatch(client_id):
        problem = "has a character that a client id can't have."
        raise mistake(table.at("client_id"), problem, "Copy it again from the provider.")
    text = table.take_string("client_secret")
    source = text and SecretSource(source=text, path=table.at("client_secret"), home=home, environ=environ)
    secret = source if secrets_later or not source else source.resolve()
    key = read_client_key(table, home, environ)
    client_auth = _client_auth(table, preset, secret or None, key)
    if key is not None and not secrets_later:
        key.read()
    return ClientConfig(
        client_id=client_id,
        client_secret=secret or None,
        client_auth=client_auth,
        client_key=key,
        assertion_audience=_audience(table, client_auth),
    )


def _audience(table: ConfigTable, client_auth: ClientAuth) -> str | None:
    audience = table.take_string("client_assertion_audience")
    if audience is not None and not client_auth.endswith("_jwt"):
        remedy = 'Remove the line, or write `client_auth = "private_key_jwt"`.'
        raise mistake(table.at("client_assertion_audience"), "means nothing where nothing is signed.", remedy)
    return audience


def _client_auth(table: ConfigTable, preset: Preset, secret: object, key: ClientKey | None) -> ClientAuth:
    default = "none" if secret is None else preset.client_auth or "client_secret_basic"
    default = default if key is None else "private_key_jwt"
    chosen = table.take_choice("client_auth", get_args(ClientAuth.__value__), default)
    if (key is not None) != (chosen == "private_key_jwt"):
        if key is None:
            raise mistake(table.at("client_auth"), "needs a key to sign with.", 'Add `client_key = "file:PATH"`.')
        raise mistake(
            table.at("client_key"), "is not used by this `client_auth`.", 'Write "private_key_jwt", or remove it.'
        )
    if key is not None:
        if secret is not None:
            raise mistake(table.at("client_secret"), "is not used beside `client_key`.", "Remove one of the two.")
        return "private_key_jwt"
    if secret is None and chosen != "none":
        remedy = 'Add `client_secret`, or write `client_auth = "none"`.'
        raise mistake(table.at("client_auth"), "needs a client secret, and there is none.", remedy)
    if secret is not None and chosen == "none":
        remedy = "Remove `client_secret`, or choose how to send it."
        raise mistake(table.at("client_auth"), "would never send the client secret that is given.", remedy)
    return cast("ClientAuth", chosen)
