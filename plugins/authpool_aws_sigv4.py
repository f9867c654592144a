"""aws_sigv4: requests signed with AWS Signature Version 4, by key pairs or by the roles that these assume.

    type = { name = "aws_sigv4", service = "bedrock", region = "eu-central-1" }
    type = { name = "aws_sigv4", service = "s3", region = "eu-west-1", role_arn = "arn:aws:iam::{account}:role/CI" }

An account is a key pair, added from the JSON that AWS's tools print or from a credentials file. With `role_arn` it is
what that key pair assumes; ``{account}`` in it is the account's name. Requests are signed at the wire, whatever their
clients signed them with, and anew for each attempt.
"""

import logging
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from authpool.plugins.api import (
    Account,
    AnswerClass,
    ConfigTable,
    Injected,
    InjectionRefusedError,
    Injector,
    InjectorFactory,
    OutgoingRequest,
    PoolConfig,
    TokenSource,
    TokenSourceFactory,
    UpstreamAnswer,
    check_endpoint,
    hookimpl,
    injection_options,
    mistake,
    source_options,
)
from authpool_aws_keys import BAD_KEYS, AccountKeys, AssumedRole
from authpool_aws_signature import PLAIN_PATHS, Keys, amz_date, authorization, canonical_path, canonical_query

logger = logging.getLogger(__name__)

UNSIGNED = "UNSIGNED-PAYLOAD"
_KEYS = ("service", "region", "role_arn", "external_id", "session_name", "duration_seconds", "sts_url")
_TELL_THE_HASH = PLAIN_PATHS | {"aoss", "glacier"}
"""Services that want the hash of the body in a header."""
_SIGNED = frozenset({"content-type", "content-md5"})
_PRESIGNED = frozenset(
    {
        *("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders"),
        *("x-amz-signature", "x-amz-security-token", "x-amz-content-sha256"),
    }
)
_PRESIGNED_BEFORE = frozenset({"awsaccesskeyid", "signature"})
"""By Signature Version 2, which S3 alone still knows; another service's `signature` may be anything."""
SKEW_SECONDS = 240.0
"""A signature is good for five minutes to either side; with a clock further off than this AWS's own is taken."""
MOST_SKEW_SECONDS = 86_400.0
"""What is further off than this is no clock that is slow: it would be asked for signatures of another year."""
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(?:\d{12}|\{account\}):role/[!-~]+")
_WORD = re.compile(r"[a-z0-9-]+")
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]+)</Code>|\"(?:__type|code|Code)\"\s*:\s*\"(?:[^\"#]*#)?([A-Za-z0-9.]+)")
_TOO_MUCH = frozenset(
    {
        *("BandwidthLimitExceeded", "EC2ThrottledException", "ProvisionedThroughputExceededException"),
        *("RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "SlowDown", "Throttling"),
        *("ThrottledException", "ThrottlingException", "TooManyRequestsException"),
    }
)
_JUDGED = frozenset({400, 403, 503})
MOST_HOSTS = 1000
CHUNKED = (
    "The body comes in chunks that are signed or checked one by one (aws-chunked). Have the client send it as it is: "
    "for AWS's SDKs and command line AWS_REQUEST_CHECKSUM_CALCULATION=when_required does."
)
STREAMED = "The body is streamed, and this service takes none that is not signed."


# --- at the wire ------------------------------------------------------------------------------------------------------


class Signer(Injector):
    """Signs the requests of one pool."""

    client_headers = frozenset({"x-amz-security-token", "x-amz-s3session-token"})

    def __init__(self, service: str, region: str, clock: Callable[[], float] = time.time) -> None:
        self.client_parameters = _PRESIGNED | (_PRESIGNED_BEFORE if service in PLAIN_PATHS else frozenset())
        self._service = service
        self._region = region
        self._clock = clock
        self._ahead: dict[str, float] = {}
        """By how many seconds the clock of a host is ahead of ours, where that is a lot."""

    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        if not request.host:
            raise InjectionRefusedError("The request names no host, so it can't be signed.")
        keys = Keys.of_token(account.token.access_token)
        digest = self._digest(request)
        moment = amz_date(self._clock() + self._ahead.get(request.host, 0.0))
        put_on: dict[str, str | None] = {"X-Amz-Date": moment, "X-Amz-Security-Token": keys.session_token}
        tells = self._service in _TELL_THE_HASH or request.header("x-amz-content-sha256") is not None
        put_on["X-Amz-Content-Sha256"] = digest if tells else None
        own = {name.lower(): value for name, value in put_on.items()}
        headers = [(name, value) for name, value in request.headers if _is_signed(name) and name not in own]
        headers += [("host", request.host), *((name, value) for name, value in own.items() if value is not None)]
        put_on["Authorization"], signature = authorization(
            keys,
            method=request.method,
            path=canonical_path(request.path, self._service),
            query=canonical_query(request.query),
            headers=headers,
            digest=digest,
            scope=f"{moment[:8]}/{self._region}/{self._service}",
        )
        return Injected(headers=put_on, secrets=(signature, *([keys.session_token] if keys.session_token else [])))

    def _digest(self, request: OutgoingRequest) -> str:
        """The hash of the body, or what says that it is not signed. Raises InjectionRefusedError."""
        if _is_chunked(request):
            raise InjectionRefusedError(CHUNKED)
        digest = request.body.sha256
        if digest is not None:
            return digest
        if self._service in PLAIN_PATHS and request.scheme == "https":
            return UNSIGNED
        raise InjectionRefusedError(STREAMED)

    def again(self, request: OutgoingRequest, answer: UpstreamAnswer, account: Account) -> bool:
        """Take over AWS's clock where it refuses ours: a machine that slept, or has no time server."""
        if answer.status not in {400, 401, 403}:
            return False
        try:
            theirs = parsedate_to_datetime(answer.header("date") or "").timestamp()
        except (ValueError, OverflowError):
            return False
        ahead = theirs - self._clock()
        known = self._ahead.get(request.host, 0.0)
        if abs(ahead - known) < SKEW_SECONDS or abs(ahead) > MOST_SKEW_SECONDS:
            return False
        if len(self._ahead) >= MOST_HOSTS:
            self._ahead.clear()
        self._ahead[request.host] = ahead
        logger.warning(
            "The clock of %s is %+.0f s off ours: requests to it are signed by that one", request.host, ahead
        )
        return True

    def meaning(self, answer: UpstreamAnswer) -> AnswerClass:
        """Tell a key that is no good, and a limit: AWS says either by a code, and 403 or 400."""
        if answer.status not in _JUDGED:
            return None
        code = (answer.header("x-amzn-errortype") or answer.header("x-amzn-query-error") or "").strip()
        code = re.split("[:;]", code)[0].rpartition("#")[2]
        if not code and answer.body is None:
            return "wait"
        if not code and (found := _CODE.search(answer.body or b"")):
            code = (found[1] or found[2]).decode()
        return "bad_token" if code in BAD_KEYS else "cooldown" if code in _TOO_MUCH else None


def _is_signed(name: str) -> bool:
    """Whether a header is signed, where a client sends it: what others change on the way is better left out."""
    return name in _SIGNED or name.startswith("x-amz-")


def _is_chunked(request: OutgoingRequest) -> bool:
    return any(
        name in {"x-amz-decoded-content-length", "x-amz-trailer"}
        or (name == "content-encoding" and "aws-chunked" in value.lower())
        or (name == "x-amz-content-sha256" and value.strip().upper().startswith("STREAMING-"))
        for name, value in request.headers
    )


# --- configuration ----------------------------------------------------------------------------------------------------


def _word(table: ConfigTable, key: str, example: str) -> str:
    word = table.take_string(key)
    if word is None or not _WORD.fullmatch(word):
        problem = "is missing." if word is None else "has a character other than small letters, digits and `-`."
        raise mistake(table.at(key), problem, f'Write it as `{key} = "{example}"`.')
    return word


def _make_source(pool: PoolConfig) -> TokenSource:
    table = source_options(pool, *_KEYS)
    region, role = _word(table, "region", "eu-central-1"), table.take_string("role_arn")
    if role is None:
        for key in _KEYS[3:]:
            if key in table:
                raise mistake(table.at(key), "means nothing without `role_arn`.", "Remove it, or add that.")
        return AccountKeys()
    if not _ROLE.fullmatch(role):
        raise mistake(table.at("role_arn"), "is no role.", 'Write it as "arn:aws:iam::123456789012:role/NAME".')
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    url = table.take_string("sts_url") or f"https://sts.{region}.{domain}/"
    try:
        check_endpoint(url)
    except ValueError as error:
        raise mistake(table.at("sts_url"), str(error), "Write it as https://sts.REGION.amazonaws.com/.") from None
    return AssumedRole(
        role_arn=role,
        sts_url=url,
        region=region,
        session_name=table.take_string("session_name") or "authpool",
        duration_seconds=table.take_whole("duration_seconds", 3600, 900, 43_200),
        external_id=table.take_string("external_id"),
    )


def _make_signer(pool: PoolConfig) -> Injector:
    table = injection_options(pool, *_KEYS)
    return Signer(_word(table, "service", "s3"), _word(table, "region", "eu-central-1"))


@hookimpl
def authpool_token_source(name: str) -> TokenSourceFactory | None:
    return _make_source if name == "aws_sigv4" else None


@hookimpl
def authpool_injection(name: str) -> InjectorFactory | None:
    return _make_signer if name == "aws_sigv4" else None
