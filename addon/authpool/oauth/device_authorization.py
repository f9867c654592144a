"""Device authorization (RFC 8628): a person signs in on another device, and types a short code there.

The token endpoint is asked again and again meanwhile. Only an answer of its own ends that, and each that it does not
know does (RFC 8628 §3.5): what is no OAuth answer, a server's error or a lost connection is waited out, with pauses
that grow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from authpool.accounts.account import Account
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.config.endpoint_url import check_endpoint
from authpool.config.error_codes import TRANSIENT_CODES
from authpool.errors import RefusedError
from authpool.oauth.answer_body import Body, whole_document
from authpool.oauth.error_code import code_of, description_of, shown_code
from authpool.oauth.grant_request import (
    GrantRequest,
    device_code_request,
    device_token_request,
    doubt,
    without_secrets,
)
from authpool.oauth.provider_text import harmless_words
from authpool.oauth.token_client import TokenEndpoint
from authpool.oauth.verdict import (
    TRANSIENT_STATUSES,
    Answer,
    Granted,
    GrantRejected,
    PartlyGranted,
    Reply,
    TryLater,
    judge,
)

USUAL_INTERVAL_SECONDS = 5.0
SLOW_DOWN_SECONDS = 5.0
MAX_PAUSE_SECONDS = 60.0
SHORTEST_INTERVAL_SECONDS = 1.0
LONGEST_LIFETIME_SECONDS = 3600.0
USUAL_LIFETIME_SECONDS = 600.0
"""Where a provider does not say how long its code lives, which it must."""
TIMED_OUT = "timed_out"
"""The code of the error (`--json`) where the time was up."""
_LONGEST_CODE = 64
_PENDING, _SLOW_DOWN = "authorization_pending", "slow_down"
_DECLINED = frozenset({"access_denied", "authorization_declined"})
"""The second is what Microsoft says: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code"""
_IN_WORDS = {
    "bad_verification_code": "it does not know the code that it gave",
    "incorrect_device_code": "it does not know the code that it gave",
    "device_flow_disabled": "signing in on another device is switched off for this client",
}
"""What Microsoft (as above) and GitHub say beside the standard's codes:
https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps#error-codes-for-the-device-flow"""


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

    def __init__(
        self,
        endpoint: TokenEndpoint,
        clock: Clock,
        pool: PoolConfig,
        account: Account,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`account` is provisional: it tells the client. `warn` is told once that answers are being waited out."""
        self._endpoint = endpoint
        self._clock = clock
        self._pool = pool
        self._account = account
        self._warn = warn
        self._warned = False
        self.trouble: str | None = None
        """Why the last question to the token endpoint had no answer to go by; None where it had one."""

    async def begin(self, device_url: str) -> DeviceCode:
        """Ask for a code (RFC 8628 §3.1). Raises DeviceRefusedError."""
        answer = await self._post(device_code_request(self._pool, device_url, self._account))
        if not isinstance(answer, Reply):
            raise DeviceRefusedError(f"the provider gives no code for another device: {answer.detail}")
        document = _document(answer) or {}
        _, error = code_of(document, {})
        if error is not None or answer.status != 200:
            said = without_secrets(harmless_words(description_of(document)), self._account, self._pool)
            told = error if error in _IN_WORDS else shown_code(error or "")
            why = ": ".join(filter(None, (told or f"HTTP {answer.status}", _IN_WORDS.get(error or "", said))))
            raise DeviceRefusedError(f"the provider gives no code for another device ({why})")
        return _device_code(document)

    async def wait(self, code: DeviceCode, token_url: str) -> Granted | PartlyGranted:
        """Ask for the token until there is one (RFC 8628 §3.4, §3.5). Raises RefusedError when there will be none."""
        request = device_token_request(self._pool, token_url, self._account, code.device_code)
        ends_at = self._clock.monotonic() + code.lifetime_seconds
        interval, pause = code.interval_seconds, code.interval_seconds
        lost = False
        while True:
            left = ends_at - self._clock.monotonic()
            if pause >= left:
                await self._clock.sleep(max(0.0, left))
                raise RefusedError(
                    too_late(self.trouble, code.lifetime_seconds, "entered the code"), error_code=TIMED_OUT
                )
            await self._clock.sleep(pause)
            answer = await self._post(request)
            error = _error_in(answer)
            if error == _SLOW_DOWN:
                interval += SLOW_DOWN_SECONDS
            if error in {_SLOW_DOWN, _PENDING}:
                self.trouble = None
                pause = interval
                continue
            outcome = self._judged(answer, code, error, lost=lost)
            if isinstance(outcome, Granted | PartlyGranted):
                return outcome
            lost = lost or outcome.ambiguous
            self._note(answer, outcome, token_url)
            grown = min(max(interval, pause * 2), max(interval, MAX_PAUSE_SECONDS))
            left = ends_at - self._clock.monotonic()
            # The code is asked for once more before it ends, however long the pauses are by then.
            pause = max(min(grown, max(interval, left - interval)), outcome.retry_after_seconds or 0.0)

    def _judged(
        self, answer: Answer, code: DeviceCode, error: str | None, *, lost: bool
    ) -> Granted | PartlyGranted | TryLater:
        """What was granted, or why that may come yet. Raises RefusedError.

        `lost`: an answer before this one, which may have been the grant, never arrived.
        """
        if error in _DECLINED:
            raise RefusedError(f"the sign-in was declined at the provider ({error}): nothing was changed")
        if error == "expired_token":
            raise RefusedError("the code is too old (expired_token): nothing was changed")
        if error in _IN_WORDS:
            raise RefusedError(f"the provider ended the sign-in ({error}: {_IN_WORDS[error]}): nothing was changed")
        verdict = judge(answer, now=self._clock.time(), codes=self._pool.codes, presented="")
        match verdict:
            case Granted() | PartlyGranted():
                return verdict
            case TryLater():
                why = self._final(answer)
                if why is None:
                    return verdict
            case _:
                why = verdict.reason
        why = without_secrets(why, self._account, self._pool, code.device_code, code.user_code)
        if lost and isinstance(verdict, GrantRejected):
            why = f"{why}; an answer before that was lost on the way, and a code is good for once"
        raise RefusedError(f"the provider ended the sign-in ({why}): nothing was changed")

    def _final(self, answer: Answer) -> str | None:
        """What the endpoint says by an error code that authpool does not know, and that ends the wait; else None."""
        document = _document(answer)
        if document is None or not isinstance(answer, Reply):
            return None
        standard, sent = code_of(document, self._pool.codes)
        if sent is None or standard in TRANSIENT_CODES or _is_transient(answer.status):
            return None
        told = ": ".join(filter(None, (shown_code(sent), harmless_words(description_of(document)))))
        return f"HTTP {answer.status} {told}"

    def _note(self, answer: Answer, outcome: TryLater, token_url: str) -> None:
        self.trouble = outcome.detail
        if outcome.misplaced:
            self.trouble += f"; {doubt(token_url, self._pool, answered=isinstance(answer, Reply))}"
        if not self._warned:
            self._warned = True
            self._warn(f"no answer to go by from the token endpoint ({self.trouble}): it is asked again")

    async def _post(self, request: GrantRequest) -> Answer:
        return await self._endpoint.post(request.url, request.sent_form(self._clock.time()), request.headers)


def too_late(trouble: str | None, seconds: float, done: str) -> str:
    """Say that the time is up: nobody has `done` it, or the token endpoint does not say whether anybody has."""
    if trouble is None:
        return f"nobody {done} within {seconds:g} s: nothing was changed"
    return (
        f"the token endpoint did not tell within {seconds:g} s whether somebody {done} ({trouble}): nothing was changed"
    )


def _error_in(answer: Answer) -> str | None:
    document = _document(answer)
    return None if document is None else code_of(document, {})[0]


def _is_transient(status: int) -> bool:
    return status in TRANSIENT_STATUSES or status >= 500


def _document(answer: Answer) -> dict[str, Any] | None:
    """The whole document of an answer; what stands beside a redirect is no endpoint's word."""
    if not isinstance(answer, Reply) or 300 <= answer.status < 400:
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
