"""`token_params` and `token_headers`: what a provider wants at its token endpoint beside the grant's own."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authpool.config.client_secret import SecretSource, is_literal
from authpool.config.config_table import ConfigTable, KeyPath, mistake

EXTRA_KEYS = ("token_params", "token_headers")

_OWN_PARAMETERS = frozenset(
    {
        *("grant_type", "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type"),
        *("refresh_token", "code", "code_verifier", "redirect_uri", "device_code", "username", "password"),
        *("assertion", "subject_token", "subject_token_type", "actor_token", "actor_token_type"),
        *("token", "token_type_hint"),
    }
)
"""What the grants themselves send (RFC 6749, 7009, 7521, 7636, 8628, 8693)."""
_OWN_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length"),
        *("content-type", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

type _Value = str | SecretSource
type _ValueAt = Callable[[str, KeyPath], _Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExtras:
    """Parameters, each with all its values, and headers; a value that is a secret says where it is, or is that."""

    params: Mapping[str, tuple[_Value, ...]] = field(default_factory=dict, repr=False)
    headers: Mapping[str, _Value] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Those of the values that were looked up: no error description may repeat them."""

    def resolved(self) -> "TokenExtras":
        """The same with every secret looked up. Raises ConfigurationError."""
        values = [*(one for many in self.params.values() for one in many), *self.headers.values()]
        found = {id(one): one.resolve() for one in values if isinstance(one, SecretSource)}
        if not found:
            return self
        headers = {name: str(found.get(id(value), value)) for name, value in self.headers.items()}
        for name, value in self.headers.items():
            if isinstance(value, SecretSource):
                _check_value(headers[name], value.path)
        return TokenExtras(
            params={name: tuple(found.get(id(one), one) for one in many) for name, many in self.params.items()},
            headers=headers,
            secrets=tuple(found.values()),
        )

    def form(self) -> dict[str, list[str]]:
        """The parameters, for who has resolved them."""
        return {name: [str(one) for one in many] for name, many in self.params.items()}


def read_token_extras(
    table: ConfigTable, home: Path, environ: Mapping[str, str], *, secrets_later: bool
) -> TokenExtras:
    """Read both tables. Raises ConfigurationError, for a name that would take the place of a grant's own as well."""

    def value_at(text: str, path: KeyPath) -> _Value:
        return text if is_literal(text) else SecretSource(source=text, path=path, home=home, environ=environ)

    own = ConfigTable.unchecked(table.take_table("token_params"), table.at("token_params"))
    params: dict[str, tuple[_Value, ...]] = {}
    for name in table.take_table("token_params"):
        if name.lower() in _OWN_PARAMETERS:
            remedy = "Use `scopes`." if name.lower() == "scope" else "Remove it."
            raise mistake(own.at(name), "is a parameter of the grant itself.", remedy)
        texts = own.take_strings(name) if own.kind_of(name) is list else (own.take(name, str, ""),)
        params[name] = tuple(value_at(text, own.at(name)) for text in texts)
    extras = TokenExtras(params=params, headers=_headers(table, value_at))
    return extras if secrets_later else extras.resolved()


def _headers(table: ConfigTable, value_at: _ValueAt) -> dict[str, _Value]:
    own = ConfigTable.unchecked(table.take_table("token_headers"), table.at("token_headers"))
    headers: dict[str, _Value] = {}
    for name in table.take_table("token_headers"):
        if not _HEADER_NAME.fullmatch(name):
            raise mistake(own.at(name), "is not a header name.", 'Write it as "X-Api-Key".')
        if name.lower() in _OWN_HEADERS:
            raise mistake(own.at(name), "is a header that authpool sets itself.", "Remove it; see `client_auth`.")
        if name.lower() in {known.lower() for known in headers}:
            raise mistake(own.at(name), "is there twice, in other letters.", "Remove one.")
        value = value_at(own.take_string(name) or "", own.at(name))
        if isinstance(value, str):
            _check_value(value, own.at(name))
        headers[name] = value
    return headers


def _check_value(value: str, path: KeyPath) -> None:
    if not _HEADER_VALUE.fullmatch(value):
        raise mistake(path, "has a line end or another character no header can have.", "Write it in one line of ASCII.")
