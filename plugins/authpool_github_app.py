"""github_app: tokens of a GitHub App's installations, got with the App's private key.

    type = { name = "github_app", app_id = "12345", private_key = "file:app.pem" }

An account is an installation: its name is the installation's ID, or the login of the owner who installed the App.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from os import environ
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authpool.plugins.api import (
    Account,
    ConfigTable,
    CredentialDeadError,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    Fetched,
    NotSent,
    PoolConfig,
    Reply,
    ReplyLost,
    TokenClient,
    TokenSource,
    TokenSourceFactory,
    check_endpoint,
    clip_reason,
    harmless_words,
    hookimpl,
    is_literal,
    mistake,
    resolve_secret,
    source_options,
)
from authpool.plugins.api import retry_after_seconds as seconds_of

_KEYS = ("app_id", "private_key", "api_url", "permissions", "repositories")
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,99})")
_APP_ID = re.compile(r"[A-Za-z0-9.]{1,64}")
_BACK_DATED_SECONDS = 60
_LIFETIME_SECONDS = 540
"""GitHub takes ten minutes at most: the rest is for a clock of ours that is ahead."""
_GONE_SECONDS = 300.0
"""So long an installation is left alone that is suspended, or that GitHub does not know."""
_LIMIT_SECONDS = 60.0
"""How long to wait after a rate limit that tells no time, as GitHub's documentation has it."""


class GithubApp(TokenSource):
    """Installation tokens of one App."""

    def __init__(
        self,
        *,
        app_id: str,
        key: RSAPrivateKey,
        api_url: str = "https://api.github.com",
        narrowed: Mapping[str, object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`narrowed`: the `permissions` and `repositories` to ask for; without, all that the installation has."""
        self._app_id = app_id
        self._key = key
        self._api_url = api_url.rstrip("/")
        self._narrowed = dict(narrowed or {})
        self._clock = clock
        self._client: TokenClient | None = None

    async def fetch(self, account: Account) -> Fetched:
        number = account.name if account.name.isascii() and account.name.isdigit() else await self._found(account.name)
        url = f"{self._api_url}/app/installations/{number}/access_tokens"
        answer = self._whole(await self._endpoint().post_json(url, self._narrowed, self._headers()))
        if answer.status != 201:
            raise self._refusal(answer)
        document = _document(answer.body)
        try:
            ends_at = int(datetime.fromisoformat(document["expires_at"]).timestamp())
        except (KeyError, TypeError, ValueError, OverflowError):
            ends_at = None
        token = document.get("token")
        if not isinstance(token, str) or not token or ends_at is None:
            raise CredentialUnavailableError("GitHub's answer has no token that can be read")
        return Fetched(access_token=token, expires_at=ends_at)

    async def _found(self, owner: str) -> str:
        """The ID of the installation of an organization, or of a user."""
        if not _LOGIN.fullmatch(owner):
            raise CredentialDeadError("its name is neither an installation's ID nor a login of GitHub")
        answer = None
        for kind in ("orgs", "users"):
            url = f"{self._api_url}/{kind}/{quote(owner)}/installation"
            answer = self._whole(await self._endpoint().get(url, self._headers()))
            if answer.status != 404:
                break
        if answer is None or answer.status != 200:
            raise self._refusal(answer)
        number = _document(answer.body).get("id")
        if not isinstance(number, int):
            raise CredentialUnavailableError("GitHub's answer has no ID of an installation")
        return str(number)

    def _whole(self, answer: Reply | NotSent | ReplyLost) -> Reply:
        if isinstance(answer, Reply):
            return answer
        raise CredentialUnavailableError(f"GitHub: {answer.detail}")  # asking again does no harm: nothing is spent

    def _refusal(self, answer: Reply | None) -> Exception:
        if answer is None:
            return CredentialUnavailableError("GitHub was not asked")
        message = str(_document(answer.body).get("message", ""))
        said = message.lower()
        why = f"GitHub: HTTP {answer.status}: {clip_reason(harmless_words(message[:300]))}"
        wait = seconds_of(answer.retry_after, self._clock())
        if answer.status == 429 or (answer.status == 403 and (wait is not None or "rate limit" in said)):
            return CredentialUnavailableError(why, _LIMIT_SECONDS if wait is None else wait)
        if answer.status == 401 or (answer.status == 404 and "integration" in said):
            return CredentialMisconfiguredError(f"{why} (check `app_id`, `private_key` and this machine's clock)")
        if answer.status == 404 or (answer.status == 403 and "suspended" in said):
            return CredentialUnavailableError(why, _GONE_SECONDS)  # GitHub's owner may take it back by himself
        return CredentialUnavailableError(why, wait)

    def _endpoint(self) -> TokenClient:
        """Made when it is needed: it loads every CA there is."""
        self._client = self._client or TokenClient()
        return self._client

    def _headers(self) -> dict[str, str]:
        return {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._assertion()}",
            "X-GitHub-Api-Version": "2022-11-28",
        }

    def _assertion(self) -> str:
        """A JWT by which the App shows who it is (RFC 7519), back-dated for a clock of ours that is ahead."""
        now = int(self._clock())
        claims = {"iat": now - _BACK_DATED_SECONDS, "exp": now + _LIFETIME_SECONDS, "iss": self._app_id}
        signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        return f"{signed}.{_base64(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def _encoded(document: Mapping[str, object]) -> str:
    return _base64(json.dumps(document, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _make(pool: PoolConfig) -> TokenSource:
    table = source_options(pool, *_KEYS)
    app_id = table.take_string("app_id")
    if app_id is None or not _APP_ID.fullmatch(app_id):
        raise mistake(table.at("app_id"), "is missing, or is no App's ID.", 'Write it as `app_id = "12345"`.')
    url = table.take_string("api_url") or "https://api.github.com"
    try:
        check_endpoint(url)
    except ValueError as error:
        raise mistake(table.at("api_url"), str(error), "Write it as https://HOST/api/v3.") from None
    return GithubApp(app_id=app_id, key=_key(pool, table), api_url=url, narrowed=_narrowed(table))


def _narrowed(table: ConfigTable) -> dict[str, object]:
    permissions = ConfigTable.unchecked(table.take_table("permissions"), table.at("permissions"))
    wanted: dict[str, object] = {}
    if "permissions" in table:
        wanted["permissions"] = {name: permissions.take(name, str, "") for name in table.take_table("permissions")}
    if repositories := table.take_strings("repositories"):
        wanted["repositories"] = list(repositories)
    return wanted


def _key(pool: PoolConfig, table: ConfigTable) -> RSAPrivateKey:
    source, advice = table.take_string("private_key"), 'Write it as `private_key = "file:app.pem"`, or env:NAME.'
    if source is None or is_literal(source):
        raise mistake(table.at("private_key"), "names no file and no variable.", advice)
    pem = resolve_secret(source, table.at("private_key"), pool.home, environ)
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # not chained: it may quote the key
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise mistake(table.at("private_key"), "is no RSA key in PEM.", "Take the file that GitHub made for the App.")
    return key


@hookimpl
def authpool_token_source(name: str) -> TokenSourceFactory | None:
    return _make if name == "github_app" else None
