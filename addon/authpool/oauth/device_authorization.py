"""Device authorization (RFC 8628): a person signs in on another device, and types a short code there.

The token endpoint is asked again and again meanwhile. Only an answer of its own ends that: what is no OAuth answer, a
server's error or a lost connection is waited out, with pauses that grow.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from authpool.accounts.account import Account
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.config.endpoint_url import check_endpoint
from authpool.errors import RefusedError
from authpool.oauth.answer_body import Body, whole_document
from authpool.oauth.error_code import code_of, description_of, shown_code
from authpool.oauth.grant_request import GrantRequest, device_code_request, device_token_request, without_secrets
from authpool.oauth.provider_text import harmless_words
from authpool.oauth.token_client import TokenEndpoint
from authpool.oauth.verdict import Answer, Granted, PartlyGranted, Reply, TryLater, judge

USUAL_INTERVAL_SECONDS = 5.0
SLOW_DOWN_SECONDS = 5.0
MAX_PAUSE_SECONDS = 60.0
SHORTEST_INTERVAL_SECONDS = 1.0
LONGEST_LIFETIME_SECONDS = 3600.0
USUAL_LIFETIME_SECONDS = 600.0
"""Where a provider does not say how long its code lives, which it must."""
LAST_SECONDS = 1.0
"""So long before the code ends it is asked for the last time."""
_LONGEST_CODE = 64
_PENDING, _SLOW_DOWN = "authorization_pending", "slow_down"


class DeviceRefusedError(RefusedError):
    """The provider does not begin a sign-in on another device: for this client, or at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """What the person needs: where to go, and what to type there. `ends_at` and `interval_seconds` are monotonic.

    `complete_url` has the code in it already, for a link or a QR code; not every provider has one.
    """

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    url: str
    complete_url: str | None = field(default=None, repr=False)
    lifetime_seconds: float
    interval_seconds: float


class DeviceAuthorization:
    """Signs somebody in on another device, for one pool."""

    def __init__(self, endpoint: TokenEndpoint, clock: Clock, pool: PoolConfig, account: Account) -> None:
        """`account` is provisional: it tells the client."""
        self._endpoint = endpoint
        self._clock = clock
        self._pool = pool
        self._account = account

    async def begin(self, device_url: str) -> DeviceCode:
        """Ask for a code (RFC 8628 §3.1). Raises DeviceRefusedError."""
        answer = await self._post(device_code_request(self._pool, device_url, self._account))
        if not isinstance(answer, Reply):
            raise DeviceRefusedError(f"the provider gives no code for another device: {answer.detail}")
        document = _document(answer) or {}
        _, error = code_of(document, {})
        if error is not None or answer.status != 200:
            said = without_secrets(harmless_words(description_of(document)), self._account, self._pool)
            why = ": ".join(filter(None, (shown_code(error or "") or f"HTTP {answer.status}", said)))
            raise DeviceRefusedError(f"the provider gives no code for another device ({why})")
        return _device_code(document)

    async def wait(self, code: DeviceCode, token_url: str) -> Granted:
        """Ask for the token until there is one (RFC 8628 §3.4, §3.5). Raises RefusedError when there will be none."""
        request = device_token_request(self._pool, token_url, self._account, code.device_code)
        ends_at = self._clock.monotonic() + code.lifetime_seconds
        interval, pause = code.interval_seconds, code.interval_seconds
        while True:
            left = ends_at - self._clock.monotonic()
            if left <= interval:
                await self._clock.sleep(max(0.0, left))
                raise RefusedError(f"nobody entered the code within {code.lifetime_seconds:g} s: nothing was changed")
            # A pause that has grown ends before the code does: whoever entered it meanwhile is still found.
            await self._clock.sleep(max(interval, min(pause, left - LAST_SECONDS)))
            answer = await self._post(request)
            document = _document(answer) or {}
            error = code_of(document, {})[0]
            if error == _SLOW_DOWN:
                interval += SLOW_DOWN_SECONDS
            if error in {_SLOW_DOWN, _PENDING}:
                pause = interval
                continue
            granted = self._judged(answer, code, error)
            if granted is not None:
                return granted
            pause = min(max(interval, pause * 2), max(interval, MAX_PAUSE_SECONDS))

    def _judged(self, answer: Answer, code: DeviceCode, error: str | None) -> Granted | None:
        """What was granted, or None where that may come yet. Raises RefusedError."""
        if error == "access_denied":
            raise RefusedError("the sign-in was declined at the provider (access_denied): nothing was changed")
        if error == "expired_token":
            raise RefusedError("the code is too old (expired_token): nothing was changed")
        verdict = judge(answer, now=self._clock.time(), codes=self._pool.codes)
        match verdict:
            case Granted():
                return verdict
            case TryLater() | PartlyGranted():
                return None
        why = without_secrets(verdict.reason, self._account, self._pool, code.device_code, code.user_code)
        raise RefusedError(f"the provider ended the sign-in ({why}): nothing was changed")

    async def _post(self, request: GrantRequest) -> Answer:
        return await self._endpoint.post(request.url, request.sent_form(self._clock.time()), request.headers)


def _document(answer: Answer) -> dict[str, Any] | None:
    if not isinstance(answer, Reply):
        return None
    return whole_document(Body(data=answer.body, content_type=answer.content_type))


def _device_code(document: dict[str, Any]) -> DeviceCode:
    """Read RFC 8628 §3.2; `verification_url` is what Google calls it."""
    url = document.get("verification_uri") or document.get("verification_url")
    device_code, user_code = document.get("device_code"), document.get("user_code")
    if not (_is_text(url) and _is_text(device_code) and _is_text(user_code)) or len(str(user_code)) > _LONGEST_CODE:
        raise DeviceRefusedError("the provider's answer has no code for another device in it")
    try:
        check_endpoint(str(url))
    except ValueError as error:
        problem = str(error).rstrip(".")
        raise DeviceRefusedError(f"the address that the provider gives for another device {problem}") from None
    code = DeviceCode(
        device_code=str(device_code),
        user_code=str(user_code),
        url=str(url),
        lifetime_seconds=_seconds(document.get("expires_in"), USUAL_LIFETIME_SECONDS, LONGEST_LIFETIME_SECONDS),
        interval_seconds=_seconds(document.get("interval"), USUAL_INTERVAL_SECONDS, MAX_PAUSE_SECONDS),
    )
    complete = document.get("verification_uri_complete")
    try:
        check_endpoint(str(complete))
    except ValueError:
        return code
    return replace(code, complete_url=str(complete))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _seconds(value: object, usual: float, most: float) -> float:
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else usual
    except (ValueError, OverflowError):
        seconds = usual
    return min(max(seconds, SHORTEST_INTERVAL_SECONDS), most) if seconds == seconds else usual  # noqa: PLR0124 - nan
