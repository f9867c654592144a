"""Where a credential comes from when an account is added: a private file, the environment, or standard input.

Never an argument: prompts, shells and mitmproxy's command history remember what was typed.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authpool.accounts.account import OAuthClient
from authpool.accounts.printable import clip_reason
from authpool.errors import RefusedError
from authpool.files.home import read_secret_file
from authpool.store.sealing.sealed_value import key_id_of
from authpool.verbs.key_pairs import key_pair_in, key_pair_in_lines

_VISIBLE = re.compile(r"[\x21-\x7e]+")  # what can stand in a header or a form as it is
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROFILE = re.compile(r"\[[^\[\]{}\"]*\]\s*\n")  # of AWS's credentials file, where JSON has a list
_FORMATS = (
    "a token response, Google authorized_user JSON, an Antigravity Manager account file, "
    "or a refresh token alone on one line"
)
_PATTERNS = "@FILE or env:NAME"
_EXCHANGED_FROM = "exchanged_from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a source holds. `secret` is a line by itself: what it is, the type of the pool decides.

    `name` is the account's name as the source claims it, to be held against the provider's own word. The operator's
    switch of the application it comes from is for an account that is new here; so are `created_at` (Unix seconds), the
    label, and the `order` in that application's list. `path` is the file it was read from.
    """

    secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    client: OAuthClient | None = None
    name: str | None = None
    label: str | None = None
    created_at: int | None = None
    order: int | None = None
    proxy_disabled: bool = False
    proxy_disabled_at: int | None = None
    proxy_disabled_reason: str | None = None
    path: Path | None = None
    exchanged_from: tuple[str, ...] = ()
    """Fingerprints of the refresh tokens that were given for this one while it was being added."""
    sealed: "SealedCredential | None" = None
    """All the rest, where authpool itself kept it: opened by whoever has the key (`RescuedTokens.opened`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedCredential:
    """A credential as JSON, sealed: for which pool, and the fingerprint of its refresh token."""

    pool: str
    fingerprint: str
    value: str = field(repr=False)


def read_source(source: str, *, environ: Mapping[str, str], stdin: Callable[[], str] | None = None) -> Credential:
    """Read ``@FILE``, ``env:NAME`` or, where there is a `stdin` to read all of, ``-``. Raises RefusedError.

    ``none`` is for accounts that have no secret of their own: a plugin fetches their tokens.
    What was given is never repeated in a message: it may be the secret itself.
    """
    if source == "none":
        return Credential()
    if source == "-" and stdin is not None:
        return parse_credential(stdin(), "standard input")
    if source.startswith("@"):
        return _from_file(source.removeprefix("@"))
    if source.startswith("env:"):
        return _from_environment(source.removeprefix("env:"), environ)
    patterns = _PATTERNS if stdin is None else f"{_PATTERNS}, or - for standard input"
    raise RefusedError(
        f"SOURCE must be {patterns}: a secret given as an argument is remembered by prompts and shells. "
        "If that was a live secret, consider it leaked"
    )


def _from_file(name: str) -> Credential:
    if not name or "\x00" in name:
        raise RefusedError("SOURCE names no file after `@`")
    try:
        path = Path(name).expanduser().absolute()
    except RuntimeError:  # ~somebody who does not exist
        raise RefusedError("SOURCE names the folder of a user who does not exist") from None
    return parse_credential(read_secret_file(path), str(path), path=path)


def _from_environment(name: str, environ: Mapping[str, str]) -> Credential:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise RefusedError("SOURCE names no environment variable after `env:`")
    text = environ.get(name, "")
    if not text.strip():
        raise RefusedError(f"the environment variable {name} is not set, or is empty")
    return parse_credential(text, f"the environment variable {name}")


def parse_credential(text: str, origin: str, *, path: Path | None = None) -> Credential:
    """Read a credential in any of its formats; `origin` says where it is from. Raises RefusedError."""
    content = text.replace("\x00", "").removeprefix("\ufeff").strip()  # Antigravity Manager leaves both behind
    if not content:
        raise RefusedError(f"{origin} is empty")
    if content.startswith("{") or (content.startswith("[") and not _PROFILE.match(content)):
        return credential_of(_json_object(content, origin), origin, path)
    if (pair := key_pair_in_lines(content, origin)) is not None:
        return Credential(client=pair, path=path)
    if len(content.splitlines()) > 1:
        raise RefusedError(f"{origin} has more than one line and is not JSON; it must be {_FORMATS}")
    return bare_credential(content, origin, path)


def bare_credential(line: str, origin: str, path: Path | None = None) -> Credential:
    """A secret by itself. Raises RefusedError."""
    return Credential(secret=_visible(line, origin), path=path)


def _json_object(content: str, origin: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        # Not chained: the parser's error carries the whole document.
        raise RefusedError(f"{origin} is not valid JSON") from None
    if isinstance(document, list):
        raise RefusedError(f"{origin} holds a list: authpool import --pool POOL PATH")
    if not isinstance(document, dict):
        raise RefusedError(f"{origin} holds no JSON object; it must be {_FORMATS}")
    return document


def credential_of(document: Mapping[str, Any], origin: str, path: Path | None = None) -> Credential:
    """All formats at once: each has its own names, and where two share one it means the same. Raises RefusedError.

    Antigravity Manager keeps the pair in `token` (an object); Google's libraries keep the access token there (a
    string), codex keeps the pair in `tokens`. What says that it is disabled is left out on purpose: for `add` the proof
    decides that. So is what describes a device.
    """
    if (sealed := _sealed(document)) is not None:
        return Credential(sealed=sealed, path=path, exchanged_from=_marks(document))
    if (pair := key_pair_in(document, origin)) is not None:
        return Credential(client=pair, path=path)
    grant = grant_in(document)
    client_at = document if "client_id" in document else grant
    client_id = _text(client_at, "client_id", origin)
    credential = Credential(
        refresh_token=_secret(grant, "refresh_token", origin),
        access_token=_secret(grant, "access_token", origin),
        client=None
        if client_id is None
        else OAuthClient(client_id=client_id, client_secret=_text(client_at, "client_secret", origin)),
        name=_text(document, "email", origin),
        label=_text(document, "custom_label", origin),
        proxy_disabled=document.get("proxy_disabled") is True,
        path=path,
        exchanged_from=_marks(document),
        **_pause(document, origin),
    )
    if not (credential.refresh_token or credential.access_token or credential.client):
        raise RefusedError(f"{origin} holds no refresh_token; it must be {_FORMATS}")
    return credential


def grant_in(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where in a document the pair of tokens is."""
    nested = (document.get(key) for key in ("token", "tokens"))
    return next((one for one in nested if isinstance(one, dict)), document)


def _sealed(document: Mapping[str, Any]) -> SealedCredential | None:
    value, place = document.get("sealed"), document.get("sealed_for")
    if key_id_of(value) is None or not isinstance(place, dict):
        return None
    return SealedCredential(pool=str(place.get("pool")), fingerprint=str(place.get("fingerprint")), value=str(value))


def sealed_document(sealed: SealedCredential, exchanged_from: tuple[str, ...]) -> dict[str, Any]:
    """Write a sealed credential as JSON that `parse_credential` reads again."""
    place = {"pool": sealed.pool, "fingerprint": sealed.fingerprint}
    return {"sealed_for": place, _EXCHANGED_FROM: list(exchanged_from), "sealed": sealed.value}


def _pause(document: Mapping[str, Any], origin: str) -> dict[str, Any]:
    if document.get("proxy_disabled") is not True:
        return {}
    at: Any = document.get("proxy_disabled_at")
    reason = _text(document, "proxy_disabled_reason", origin)
    return {
        "proxy_disabled_at": int(at) if type(at) in {int, float} and abs(at) < 1e15 else None,
        "proxy_disabled_reason": None if reason is None else clip_reason(reason),
    }


def _marks(document: Mapping[str, Any]) -> tuple[str, ...]:
    marks = document.get(_EXCHANGED_FROM)
    return tuple(mark for mark in marks if isinstance(mark, str)) if isinstance(marks, list) else ()


def _text(document: Mapping[str, Any], key: str, origin: str) -> str | None:
    value = document.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RefusedError(f"{origin}: `{key}` must be a string")
    return value.strip() or None


def _secret(document: Mapping[str, Any], key: str, origin: str) -> str | None:
    text = _text(document, key, origin)
    return None if text is None else _visible(text, f"{origin}: `{key}`")


def _visible(text: str, what: str) -> str:
    if not _VISIBLE.fullmatch(text):
        raise RefusedError(f"{what} has a space or a character that no token has; copy it again")
    return text


def credential_document(credential: Credential) -> dict[str, Any]:
    """Write a credential as JSON that `parse_credential` reads again, but for `name` (see `rescued_tokens`)."""
    client = credential.client
    document = {
        "refresh_token": credential.refresh_token,
        "access_token": credential.access_token,
        "token_type": "Bearer",
        "client_id": client.client_id if client is not None else None,
        "client_secret": client.client_secret if client is not None else None,
        "custom_label": credential.label,
        "proxy_disabled": credential.proxy_disabled or None,
        "proxy_disabled_at": credential.proxy_disabled_at,
        "proxy_disabled_reason": credential.proxy_disabled_reason,
        _EXCHANGED_FROM: list(credential.exchanged_from) or None,
    }
    return {key: value for key, value in document.items() if value is not None}
