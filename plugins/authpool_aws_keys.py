"""Key pairs of AWS: an account's own, or what that assumes. A part of `authpool_aws_sigv4`."""

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from html import unescape
from urllib.parse import urlencode, urlsplit

from authpool.plugins.api import (
    Account,
    CredentialDeadError,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    Fetched,
    NotSent,
    ReplyLost,
    TokenClient,
    TokenSource,
    clip_reason,
    harmless_words,
    retry_after_seconds,
)
from authpool_aws_signature import Keys, amz_date, authorization, canonical_path, canonical_query

BAD_KEYS = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken"),
        *("TokenRefreshRequired", "UnrecognizedClientException"),
    }
)
"""Codes by which AWS says that a key pair, or its session, is no good."""
_MISTAKES = frozenset({"InvalidParameterValue", "RegionDisabledException", "ValidationError"})
_CLOCK_IS_OFF = ("Signature expired", "Signature not yet current")
"""STS says it by the code of a wrong key: nobody is to be disabled because this machine's clock is off."""
_ACCOUNT_ID = re.compile(r"\d{12}")


class AccountKeys(TokenSource):
    """The account's own key pair, as it was added."""

    takes_client = True

    async def fetch(self, account: Account) -> Fetched:
        keys, ends_at = _own_keys(account, time.time())
        return Fetched(access_token=keys.as_token(), expires_at=ends_at, token_type="AWS4")


class AssumedRole(TokenSource):
    """What the account's own key pair assumes, asked of STS anew before it ends."""

    takes_client = True

    def __init__(
        self,
        *,
        role_arn: str,
        sts_url: str,
        region: str,
        session_name: str = "authpool",
        duration_seconds: int = 3600,
        external_id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`role_arn` may hold ``{account}``, the account's name."""
        self._role_arn = role_arn
        self._sts_url = sts_url
        self._region = region
        self._session_name = session_name
        self._duration_seconds = duration_seconds
        self._external_id = external_id
        self._clock = clock
        self._client: TokenClient | None = None

    async def fetch(self, account: Account) -> Fetched:
        keys, _ = _own_keys(account, self._clock())
        if "{account}" in self._role_arn and not _ACCOUNT_ID.fullmatch(account.name):
            raise CredentialDeadError("its name is no AWS account ID (12 digits), and `role_arn` is made with it")
        form = {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": self._role_arn.replace("{account}", account.name),
            "RoleSessionName": self._session_name,
            "DurationSeconds": str(self._duration_seconds),
        }
        if self._external_id is not None:
            form["ExternalId"] = self._external_id
        answer = await self._endpoint().post(self._sts_url, form, self._signed(keys, form))
        if isinstance(answer, NotSent | ReplyLost):  # asking again does no harm: nothing is spent
            raise CredentialUnavailableError(f"STS: {answer.detail}")
        if answer.status == 200:
            return _session(answer.body)
        code = _element(answer.body, "Code") or f"HTTP {answer.status}"
        why = f"STS: {code}: {clip_reason(harmless_words(_element(answer.body, 'Message')))}"
        off = any(words in why for words in _CLOCK_IS_OFF)
        if code in BAD_KEYS or (code == "SignatureDoesNotMatch" and not off):
            raise CredentialDeadError(why)
        if code in _MISTAKES and "{account}" not in self._role_arn:  # else it may be this account's name
            raise CredentialMisconfiguredError(why)
        raise CredentialUnavailableError(why, retry_after_seconds(answer.retry_after, self._clock()))

    def _endpoint(self) -> TokenClient:
        """Made when it is needed: it loads every CA there is."""
        self._client = self._client or TokenClient()
        return self._client

    def _signed(self, keys: Keys, form: Mapping[str, str]) -> dict[str, str]:
        parts = urlsplit(self._sts_url)
        moment = amz_date(self._clock())
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Amz-Date": moment}
        if keys.session_token is not None:
            headers["X-Amz-Security-Token"] = keys.session_token
        signed = [("host", parts.netloc), *((name.lower(), value) for name, value in headers.items())]
        field_value, _ = authorization(
            keys,
            method="POST",
            path=canonical_path(parts.path or "/", "sts"),
            query=canonical_query(parts.query),
            headers=signed,
            digest=hashlib.sha256(urlencode(form).encode()).hexdigest(),
            scope=f"{moment[:8]}/{self._region}/sts",
        )
        return {**headers, "Authorization": field_value, "Accept": "text/xml"}


def _own_keys(account: Account, now: float) -> tuple[Keys, int | None]:
    """The key pair that was added, and when it ends (Unix seconds). Raises CredentialDeadError."""
    client = account.client
    if client is None or client.client_secret is None:
        raise CredentialDeadError("the account has no key pair: add it again with one")
    token, ends_at = client.extra.get("session_token"), client.extra.get("expires_at")
    ends_at = ends_at if isinstance(ends_at, int) else None
    if ends_at is not None and ends_at <= now:
        raise CredentialDeadError("the session of its key pair is over: add it again with a new one")
    session_token = token if isinstance(token, str) else None
    return Keys(access_key_id=client.client_id, secret=client.client_secret, session_token=session_token), ends_at


def _session(body: bytes) -> Fetched:
    """The temporary key pair in an answer of STS. Raises CredentialUnavailableError."""
    parts = [_element(body, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")]
    try:
        ends_at = int(datetime.fromisoformat(parts[3]).timestamp())
    except ValueError:
        ends_at = 0
    if not all(parts) or not ends_at:
        raise CredentialUnavailableError("STS answered something that is no key pair")
    keys = Keys(access_key_id=parts[0], secret=parts[1], session_token=parts[2])
    return Fetched(access_token=keys.as_token(), expires_at=ends_at, token_type="AWS4")


def _element(body: bytes, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", body.decode("utf-8", "replace"))
    return unescape(found[1]).strip() if found else ""
