"""Where the private key of a client is that proves itself with a signed assertion (RFC 7523)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from authpool.config.client_secret import SecretSource, is_literal
from authpool.config.config_table import ConfigTable, mistake
from authpool.config.signing_key import ALGORITHMS, SigningKey, parse_signing_key

_FORMS = "Give it a private key in PEM or JWK that has no passphrase (openssl pkey -in OLD -out NEW takes one off)."


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """A key in a file or the environment, read anew each time, so that an exchanged file counts at once."""

    source: SecretSource
    key_id: str | None = None
    algorithm: str | None = None

    def read(self) -> tuple[SigningKey, str, str | None]:
        """The key, the algorithm to sign with, and the key's id. Raises ConfigurationError."""
        text = self.source.resolve()
        try:
            key = parse_signing_key(text)
        except ValueError as error:
            raise mistake(self.source.path, f"names a key that {error}", _FORMS) from None
        algorithm = self.algorithm or key.algorithm or key.algorithms[0]
        if algorithm not in key.algorithms:
            fitting = " or ".join(f'"{one}"' for one in key.algorithms)
            path = (*self.source.path[:-1], "client_key_alg")
            raise mistake(path, "does not fit the key.", f"Write {fitting}, or remove the line.")
        return key, algorithm, self.key_id or key.key_id


def read_client_key(table: ConfigTable, home: Path, environ: Mapping[str, str]) -> ClientKey | None:
    """Read `client_key`, `client_key_id` and `client_key_alg`. Raises ConfigurationError; the key is not looked up."""
    text = table.take_string("client_key")
    if text is None:
        for key in ("client_key_id", "client_key_alg"):
            if key in table:
                raise mistake(table.at(key), "means nothing without `client_key`.", "Remove the line.")
        return None
    path = table.at("client_key")
    if is_literal(text):
        raise mistake(path, "does not say where the key is.", 'Write it as "file:PATH" or "env:NAME".')
    algorithm = table.take_choice("client_key_alg", ALGORITHMS, "") if "client_key_alg" in table else None
    return ClientKey(
        source=SecretSource(source=text, path=path, home=home, environ=environ),
        key_id=table.take_string("client_key_id"),
        algorithm=algorithm,
    )
