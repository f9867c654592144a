"""token_exchange: access tokens for a token that the platform gives out (RFC 8693), as Kubernetes and CI services do.

    type = { name = "token_exchange", token_url = "https://sts.example.com/token", audience = "api",
             subject_token = "file:/var/run/secrets/tokens/authpool" }

The subject token is read anew for each exchange, for the platform replaces it; or a program prints it
(``subject_token = { argv = [...] }``, with the options of the type `command`).
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import authpool_command
from authpool.plugins.api import (
    Account,
    ClientRejected,
    ConfigTable,
    ConfigurationError,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    Fetched,
    Granted,
    PoolConfig,
    TokenClient,
    TokenSource,
    TokenSourceFactory,
    TryLater,
    basic_authorization,
    check_endpoint,
    clip_reason,
    hookimpl,
    is_literal,
    judge,
    mistake,
    resolve_secret,
    source_options,
    without_sent,
)

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPES = "urn:ietf:params:oauth:token-type:"
SHORT_TYPES = ("access_token", "refresh_token", "id_token", "saml1", "saml2", "jwt")
CODES = {"invalid_target": "invalid_scope"}
"""RFC 8693 §2.2.2: the audience or the resource is none that the client may have."""
MOST_BYTES = 64 * 1024
_KEYS = (
    *("token_url", "client_id", "client_secret", "client_auth", "audience", "resource", "scope"),
    *("subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A token that somebody else provides: in a file or a variable, or printed by a program. `type` is its URN."""

    place: str = ""
    program: TokenSource | None = None
    type: str

    async def read(self, account: Account) -> str:
        """The token, as it is now. Raises TokenSourceError."""
        if self.program is not None:
            return (await self.program.fetch(account)).access_token
        kind, _, name = self.place.partition(":")
        if kind == "env":
            token = os.environ.get(name, "").strip()
        else:
            token = await asyncio.to_thread(_content, Path(name))
        if not token or not token.isascii() or any(character <= " " for character in token):
            raise CredentialUnavailableError(f"{name} holds no token")
        return token


def _open_at_once(path: str, flags: int) -> int:
    """A pipe that nobody writes to is empty: waiting for one would take up a thread for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _content(path: Path) -> str:
    """Whoever writes it says who may read it: Kubernetes' are links, and of mode 0644 where no user is set."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise CredentialUnavailableError(f"{path} holds more than {MOST_BYTES} bytes")
        return content.decode().strip()
    except UnicodeDecodeError:
        raise CredentialUnavailableError(f"{path} holds no token") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name is impossible"
        raise CredentialUnavailableError(f"{path} can't be read: {why}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchange(TokenSource):
    """Exchanges the subject token, and an actor's beside it, at one token endpoint."""

    token_url: str
    form: Mapping[str, str | list[str]]
    subject: Given
    actor: Given | None = None
    client_id: str | None = None
    client_auth: str = "none"
    client_secret: str | None = field(default=None, repr=False)
    secret_path: tuple[str, ...] = ()
    http: TokenClient = field(default_factory=TokenClient, repr=False)

    async def fetch(self, account: Account) -> Fetched:
        secret = self._secret()
        form, sent = await self._given(account)
        headers: dict[str, str] = {}
        if self.client_id is not None and secret is not None and self.client_auth == "client_secret_basic":
            headers["Authorization"] = basic_authorization(self.client_id, secret)
        elif self.client_id is not None:
            form |= {"client_id": self.client_id} | ({"client_secret": secret} if secret is not None else {})
        asked_at = time.time()
        verdict = judge(await self.http.post(self.token_url, form, headers), now=asked_at, codes=CODES)
        if isinstance(verdict, Granted):
            end = None if verdict.lifetime_seconds is None else int(asked_at) + verdict.lifetime_seconds
            return Fetched(access_token=verdict.access_token, expires_at=end)
        if isinstance(verdict, TryLater):
            raise CredentialUnavailableError(verdict.detail, verdict.retry_after_seconds)
        said = getattr(verdict, "reason", "") or "no access token came"
        reason = clip_reason(without_sent(said, (*sent, secret)))
        # RFC 8693 §2.2.2: a subject token that is over is an invalid_request, and the platform will replace it.
        if isinstance(verdict, ClientRejected) and verdict.code != "invalid_request":
            raise CredentialMisconfiguredError(f"the token endpoint refuses the exchange: {reason}")
        raise CredentialUnavailableError(f"the token endpoint refuses the token that it was given: {reason}")

    async def _given(self, account: Account) -> tuple[dict[str, str | list[str]], list[str]]:
        subject = await self.subject.read(account)
        form = {**self.form, "subject_token": subject, "subject_token_type": self.subject.type}
        sent = [subject]
        if self.actor is not None:
            actor = await self.actor.read(account)
            form |= {"actor_token": actor, "actor_token_type": self.actor.type}
            sent.append(actor)
        return form, sent

    def _secret(self) -> str | None:
        if self.client_secret is None:
            return None
        try:
            return resolve_secret(self.client_secret, self.secret_path, Path("/"), os.environ)
        except ConfigurationError as error:
            raise CredentialMisconfiguredError(str(error)) from None


def _make(pool: PoolConfig) -> TokenSource:
    table = source_options(pool, *_KEYS)
    client_id, secret, method = _client(table)
    subject = _token(table, "subject_token", pool)
    if subject is None:
        remedy = 'Write it as "file:/PATH", "env:NAME" or { argv = ["PROGRAM"] }.'
        raise mistake(table.at("subject_token"), "is missing: it is what is exchanged.", remedy)
    return TokenExchange(
        token_url=_token_url(table),
        form=_form(table),
        subject=subject,
        actor=_token(table, "actor_token", pool),
        client_id=client_id,
        client_auth=method,
        client_secret=secret,
        secret_path=table.at("client_secret"),
    )


def _token_url(table: ConfigTable) -> str:
    url = table.take_string("token_url")
    if url is None:
        raise mistake(table.at("token_url"), "is missing.", "Write where tokens are exchanged.")
    try:
        check_endpoint(url)
    except ValueError as error:
        raise mistake(table.at("token_url"), str(error), "Use https://; http:// is for loopback only.") from None
    return url


def _client(table: ConfigTable) -> tuple[str | None, str | None, str]:
    client_id, secret = table.take_string("client_id"), table.take_string("client_secret")
    if secret is not None and client_id is None:
        raise mistake(table.at("client_id"), "is missing, and `client_secret` is there.", "Add it.")
    if secret is not None and (is_literal(secret) or (secret.startswith("file:") and not secret.startswith("file:/"))):
        raise mistake(table.at("client_secret"), "does not say where it is.", 'Write "env:NAME" or "file:/PATH".')
    default = "none" if secret is None else "client_secret_basic"
    method = table.take_choice("client_auth", ("client_secret_basic", "client_secret_post", "none"), default)
    if (secret is None) != (method == "none"):
        raise mistake(table.at("client_auth"), "does not go with `client_secret`.", "Remove one of the two.")
    return client_id, secret, method


def _form(table: ConfigTable) -> dict[str, str | list[str]]:
    form: dict[str, str | list[str]] = {"grant_type": GRANT_TYPE}
    for key in ("audience", "resource"):
        several = table.take_strings(key) if table.kind_of(key) is list else (table.take_string(key),)
        if values := [one for one in several if one]:
            form[key] = values
    if scope := table.take_string("scope"):
        form["scope"] = scope
    if requested := _type_of(table, "requested_token_type", ""):
        form["requested_token_type"] = requested
    return form


def _token(table: ConfigTable, key: str, pool: PoolConfig) -> Given | None:
    kind = _type_of(table, f"{key}_type", "jwt")
    if table.kind_of(key) is dict:
        factory = authpool_command.authpool_token_source("command")
        if factory is None:
            raise TypeError("the plugin `command` does not know its own name")
        return Given(program=factory(replace(pool, type_options=table.take_table(key))), type=kind)
    place = table.take_string(key)
    if place is None:
        return None
    if not place.startswith(("file:/", "env:")) or place == "env:":
        remedy = 'Write it as "file:/PATH", "env:NAME" or { argv = ["PROGRAM"] }.'
        raise mistake(table.at(key), "does not say where the token is.", remedy)
    return Given(place=place, type=kind)


def _type_of(table: ConfigTable, key: str, default: str) -> str:
    kind = table.take_string(key) or default
    return TOKEN_TYPES + kind if kind in SHORT_TYPES else kind


@hookimpl
def authpool_token_source(name: str) -> TokenSourceFactory | None:
    return _make if name == "token_exchange" else None
