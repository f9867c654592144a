"""aws_sigv4 at the wire: what goes out has a signature that botocore gives as well."""

import hashlib
import json
import re
import time
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http

from authpool.accounts.account import Account, Token
from authpool.config import HostPattern, PoolConfig
from authpool.config.pool_config import PluginInjection
from authpool.errors import ConfigurationError, InjectionRefusedError
from authpool.plugins.manager import Plugins
from authpool.requests.injector import Injector, OutgoingRequest, RequestBody
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.testing.injectors import InjectorConformance
from authpool_aws_signature import Keys
from authpool_aws_sigv4 import SKEW_SECONDS, Signer
from support.answers import JSON
from support.certificates import CertificateAuthority
from support.exchange import Answer, Request
from support.gateway import RunningGateway
from support.home import write_account
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.upstream import Upstream

KEYS = Keys(access_key_id="AKIAALICE", secret="the/secret+of-alice=", session_token="the-session+of/alice==")
BOB = Keys(access_key_id="AKIABOB", secret="the/secret+of-bob=")
S3 = {"name": "aws_sigv4", "service": "s3", "region": "eu-west-1"}
OTHER = {"name": "aws_sigv4", "service": "execute-api", "region": "eu-west-1"}
ACCOUNT = Account(pool="p", name="alice", token=Token(access_token=KEYS.as_token()))
NOW = 1_700_000_000.0
ROLE = "arn:aws:iam::{account}:role/CI"


def aws_home(rig: Rig, kind: dict[str, Any], *accounts: tuple[str, Keys], **pool: Any) -> None:
    rig.home(type=kind, token_url=None, client_id=None, client_secret=None, **pool)
    rig.upstream.accept({None})
    rig.upstream.credential_of = lambda request: None
    for name, keys in accounts or (("alice", KEYS),):
        pair = {"client_id": keys.access_key_id, "client_secret": keys.secret}
        extra = {"session_token": keys.session_token} if keys.session_token else {}
        write_account(rig.path, f"p/{name}", {"token": {"access_token": keys.as_token()}, "client": pair | extra})


def signer_of(request: Request) -> str:
    """Whose access key a request is signed with, by what it says."""
    found = re.search(r"Credential=([^/]+)/", request.header("authorization") or "")
    return found[1] if found else ""


def signature_by_botocore(request: Request, keys: Keys, service: str) -> str:
    """What botocore makes of a request that arrived, of the headers that it says are signed."""
    auth: Any = pytest.importorskip("botocore.auth")
    made: Any = pytest.importorskip("botocore.awsrequest")
    credentials: Any = pytest.importorskip("botocore.credentials")
    (field,) = request.all_headers("authorization")
    names = re.findall(r"SignedHeaders=([^,]+)", field)[0].split(";")
    headers = {name: ",".join(request.all_headers(name)) for name in names if name != "host"}
    url = f"http://{request.header('host')}{request.target}"
    asked = made.AWSRequest(method=request.method, url=url, headers=headers, data=request.body)
    asked.context["timestamp"] = request.header("x-amz-date")
    kind = auth.S3SigV4Auth if service == "s3" else auth.SigV4Auth
    owner = credentials.Credentials(keys.access_key_id, keys.secret, keys.session_token)
    signing = kind(owner, service, "eu-west-1")
    return str(signing.signature(signing.string_to_sign(asked, signing.canonical_request(asked)), asked))


def is_signed(request: Request, keys: Keys = KEYS, service: str = "s3") -> bool:
    signature = (request.header("authorization") or "").rpartition("Signature=")[2]
    expected = signature_by_botocore(request, keys, service)
    return signer_of(request) == keys.access_key_id and signature == expected


def everything(gateway: RunningGateway) -> str:
    return json.dumps([flow.get_state() for flow in gateway.flows], default=repr) + "\n".join(gateway.messages)


CLIENTS_OWN = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIADUMMY/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=the-clients-own",
    "X-Amz-Date": "20200101T000000Z",
    "X-Amz-Security-Token": "the-clients-own",
    "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD",
    "X-Amz-Meta-Name": "two  words",
    "Content-Type": "text/plain",
}


@pytest.mark.mitmproxy
@pytest.mark.parametrize("kind", (S3, OTHER), ids=("s3", "execute-api"))
async def test_what_goes_out_is_signed_anew(rig: Rig, kind: dict[str, str]) -> None:
    """In the place of the client's own signature, after another addon's change; no flow shows either."""

    class Changes:
        def request(self, flow: http.HTTPFlow) -> None:
            flow.request.headers["X-Amz-Meta-Added"] = "1"
            flow.request.content = b"changed"

    aws_home(rig, kind)
    async with reverse_gateway(rig, Changes()) as gateway, client(gateway.url) as api:
        answer = await api.put("/bucket/a%20key?partNumber=1&acl", content=b"body", headers=CLIENTS_OWN)
        (request,) = rig.upstream.received
        shown = everything(gateway)
    assert answer.status_code == 200
    assert is_signed(request, service=kind["service"])
    assert request.all_headers("x-amz-content-sha256") == [hashlib.sha256(b"changed").hexdigest()]
    assert request.all_headers("x-amz-security-token") == [KEYS.session_token]
    assert len(request.all_headers("x-amz-date")) == 1
    assert "the-clients-own" not in str(request.headers) + shown
    for secret in (KEYS.secret, KEYS.session_token, (request.header("authorization") or "")[-64:]):
        assert str(secret) not in shown


@pytest.mark.mitmproxy
async def test_without_a_session_the_clients_session_is_gone(rig: Rig) -> None:
    """A token of another session beside our key would be refused."""
    aws_home(rig, OTHER, ("bob", BOB))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.get("/x", headers={"X-Amz-Security-Token": "the-clients-own"})
    (request,) = rig.upstream.received
    assert request.header("x-amz-security-token") is None
    assert request.header("x-amz-content-sha256") is None
    assert is_signed(request, BOB, "execute-api")


@pytest.mark.mitmproxy
async def test_a_presigned_request_is_made_a_signed_one(rig: Rig) -> None:
    """What its query was signed with is taken off, in any spelling; the rest of the query stays."""
    aws_home(rig, S3)
    own = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIADUMMY%2F1&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60"
    own += "&X-Amz-SignedHeaders=host&x%2Damz-signature=the-clients-own&X-Amz-Security-Token=the-clients-own"
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.get(f"/bucket/key?{own}&versionId=3%2F4&AWSAccessKeyId=AKIA&Signature=the-clients-own")
        shown = everything(gateway)
    (request,) = rig.upstream.received
    assert request.target == "/bucket/key?versionId=3%2F4"
    assert is_signed(request)
    assert "the-clients-own" not in shown


@pytest.mark.mitmproxy
async def test_another_services_signature_is_its_own(rig: Rig) -> None:
    """Only S3 knows URLs that are signed in the old way."""
    aws_home(rig, OTHER)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.get("/x?signature=1&Signature=2&AWSAccessKeyId=3")
    assert rig.upstream.received[0].target == "/x?signature=1&Signature=2&AWSAccessKeyId=3"
    assert is_signed(rig.upstream.received[0], service="execute-api")


@pytest.mark.mitmproxy
async def test_a_streamed_body_goes_to_s3_over_tls(rig: Rig, confdir: Path, authority: CertificateAuthority) -> None:
    """Without its hash, which is said; whole bodies are hashed there too."""
    async with Upstream(authority.server_context()) as upstream:
        rig.host = upstream.authority
        aws_home(rig, S3)
        trusted = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "stream_large_bodies": "1k"}
        async with (
            gateway_master(rig.path, confdir=confdir, **trusted) as gateway,
            proxied(gateway.url, confdir) as api,
        ):
            statuses = [(await api.put(f"{upstream.url}/b/k", content=b"x" * size)).status_code for size in (4096, 1)]
    assert statuses == [200, 200]
    told = [request.header("x-amz-content-sha256") for request in upstream.received]
    assert told == ["UNSIGNED-PAYLOAD", hashlib.sha256(b"x").hexdigest()]
    assert [len(request.body) for request in upstream.received] == [4096, 1]
    assert all(map(is_signed, upstream.received))


@pytest.mark.mitmproxy
@pytest.mark.parametrize(
    "headers",
    (
        {"Content-Encoding": "aws-chunked"},
        {"Content-Encoding": "gzip, AWS-Chunked"},
        {"X-Amz-Content-Sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"},
        {"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"},
        {"X-Amz-Decoded-Content-Length": "4"},
        {"X-Amz-Trailer": "x-amz-checksum-crc32"},
    ),
)
async def test_chunks_that_are_signed_are_refused(rig: Rig, headers: dict[str, str]) -> None:
    """The client is told what to do, and nothing goes out."""
    aws_home(rig, S3)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.put("/bucket/key", content=b"4\r\nbody\r\n0\r\n\r\n", headers=headers)
    assert (answer.status_code, answer.headers["authpool-error"]) == (400, "request_refused")
    assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in answer.json()["detail"]
    assert rig.upstream.received == []


@pytest.mark.mitmproxy
async def test_a_streamed_body_over_http_is_refused(rig: Rig) -> None:
    """Nobody has it yet, so it can't be signed; an unsigned one goes to S3 over TLS alone."""
    aws_home(rig, S3)
    async with reverse_gateway(rig, stream_large_bodies="1k") as gateway, client(gateway.url) as api:
        answer = await api.put("/bucket/key", content=b"x" * 4096)
    assert (answer.status_code, answer.headers["authpool-error"]) == (400, "request_refused")
    assert rig.upstream.received == []


@pytest.mark.mitmproxy
async def test_the_next_account_signs_anew(rig: Rig) -> None:
    """A key that AWS does not know any more is told by the code in its answer, which is a 403."""
    aws_home(rig, S3, ("alice", KEYS), ("bob", BOB))
    body = b"<Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>"

    def judge(request: Request) -> Answer:
        return _Xml(403, body) if signer_of(request) == KEYS.access_key_id else JSON(200, {})

    rig.upstream.respond = judge
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [(await api.put("/bucket/key", content=b"body")).status_code for _ in range(4)]
    assert answers == [200] * 4
    owners = {keys.access_key_id: keys for keys in (KEYS, BOB)}
    assert all(is_signed(request, owners[signer_of(request)]) for request in rig.upstream.received)
    assert {signer_of(request) for request in rig.upstream.received} == {"AKIAALICE", "AKIABOB"}


@pytest.mark.mitmproxy
async def test_a_refusal_of_what_was_asked_is_passed_on(rig: Rig) -> None:
    """AccessDenied is about the bucket: nobody is to blame, and the client sees it."""
    aws_home(rig, S3, ("alice", KEYS), ("bob", BOB))
    rig.upstream.respond = lambda request: _Xml(403, b"<Error><Code>AccessDenied</Code></Error>")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/bucket/key")
    assert (answer.status_code, answer.text) == (403, "<Error><Code>AccessDenied</Code></Error>")
    assert len(rig.upstream.received) == 1


@pytest.mark.mitmproxy
async def test_a_clock_that_is_off_is_put_right_by_awss(rig: Rig) -> None:
    """The refused request is sent again by AWS's own time, with the same account; the next one is right at once."""
    aws_home(rig, S3)
    theirs = time.time() + 3600

    def judge(request: Request) -> Answer:
        told = datetime.fromisoformat(request.header("x-amz-date") or "")
        if abs(told.timestamp() - theirs) > 900:
            body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
            return _Xml(403, body, {"date": formatdate(theirs, usegmt=True)})
        return JSON(200, {})

    rig.upstream.respond = judge
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [(await api.get("/bucket/key")).status_code for _ in range(2)]
        said = [line for line in gateway.messages if "s off ours" in line]
    assert answers == [200, 200]
    assert len(rig.upstream.received) == 3
    assert all(map(is_signed, rig.upstream.received))
    assert len(said) == 1


class _Xml:
    """An answer as AWS's older services give it."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}

    async def play(self, reply: Any) -> None:
        await reply.head(self.status, {"content-type": "application/xml", **self.headers}, len(self.body))
        await reply.data(self.body)
        await reply.end()


class TestSigner(InjectorConformance):
    access_tokens = (KEYS.as_token(), BOB.as_token())

    @pytest.fixture
    def injector(self) -> Injector:
        return Signer("s3", "eu-west-1")


# --- the signer by itself ---------------------------------------------------------------------------------------------


def outgoing(*headers: tuple[str, str], scheme: str = "https", body: bytes | None = b"") -> OutgoingRequest:
    return OutgoingRequest(
        method="PUT", scheme=scheme, host="s3.test", target="/b/k", headers=headers, body=RequestBody(body)
    )


def signer(service: str = "s3") -> Signer:
    return Signer(service, "eu-west-1", clock=lambda: NOW)


@pytest.mark.parametrize(
    ("service", "scheme", "goes"), (("s3", "https", True), ("s3", "http", False), ("sqs", "https", False))
)
def test_a_body_is_left_unsigned_where_that_is_allowed(service: str, scheme: str, *, goes: bool) -> None:
    """S3 takes it over TLS; nobody else does."""
    asked = outgoing(scheme=scheme, body=None)
    if goes:
        assert signer(service).inject(asked, ACCOUNT).headers["X-Amz-Content-Sha256"] == "UNSIGNED-PAYLOAD"
    else:
        with pytest.raises(InjectionRefusedError):
            signer(service).inject(asked, ACCOUNT)


def test_a_request_that_tells_no_host_is_refused() -> None:
    """HTTP/1.0 allows it, and AWS does not."""
    asked = OutgoingRequest(method="GET", scheme="https", host="", target="/", headers=(), body=RequestBody(b""))
    with pytest.raises(InjectionRefusedError, match="host"):
        signer().inject(asked, ACCOUNT)


def test_what_others_change_on_the_way_is_not_signed() -> None:
    """Only the host, the body's type and hash, and AWS's own headers are."""
    sent = signer().inject(outgoing(("user-agent", "x"), ("x-amz-acl", "private"), ("cookie", "c=1")), ACCOUNT)
    names = "host;x-amz-acl;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    assert f"SignedHeaders={names}, " in str(sent.headers["Authorization"])
    assert KEYS.secret not in str(sent.headers)
    assert sent.secrets is not None
    assert KEYS.session_token in sent.secrets


def answer(status: int, body: bytes | None = None, **headers: str) -> UpstreamAnswer:
    known = {name.replace("_", "-"): value for name, value in headers.items()}
    return UpstreamAnswer(status=status, header=known.get, body=body)


MEANINGS: tuple[tuple[UpstreamAnswer, str | None], ...] = (
    (answer(200), None),
    (answer(401), None),
    (answer(403), "wait"),
    (answer(400), "wait"),
    (answer(403, b""), None),
    (answer(403, b"<Error><Code>ExpiredToken</Code></Error>"), "bad_token"),
    (answer(403, b'<?xml version="1.0"?><E><Error><Code>InvalidClientTokenId</Code></Error></E>'), "bad_token"),
    (answer(400, b'{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":""}'), "bad_token"),
    (answer(400, b'{"__type": "ProvisionedThroughputExceededException"}'), "cooldown"),
    (answer(503, b"<Error><Code>SlowDown</Code></Error>"), "cooldown"),
    (answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"), None),
    (answer(403, b"<Error><Code>AccessDenied</Code></Error>"), None),
    (answer(403, x_amzn_errortype="ExpiredTokenException:http://internal.amazon.com/"), "bad_token"),
    (answer(400, x_amzn_errortype="ThrottlingException"), "cooldown"),
    (answer(400, x_amzn_errortype="ValidationException"), None),
    (answer(400, x_amzn_query_error="Throttling;Sender"), "cooldown"),
)


@pytest.mark.parametrize(("told", "meaning"), MEANINGS, ids=map(str, range(len(MEANINGS))))
def test_a_code_tells_a_bad_key_and_a_limit(told: UpstreamAnswer, meaning: str | None) -> None:
    """Statuses alone do not: AWS answers 400 and 403 to everything."""
    assert signer().meaning(told) == meaning


@pytest.mark.parametrize(
    ("status", "off", "again"),
    (
        (403, 3600, True),
        (400, -3600, True),
        (403, SKEW_SECONDS - 10, False),
        (403, 0, False),
        (403, 86_400 * 365, False),
        (200, 3600, False),
        (404, 3600, False),
    ),
)
def test_a_clock_is_taken_over_where_it_explains_a_refusal(status: int, off: float, *, again: bool) -> None:
    """And signed by from then on; the same refusal once more is about something else."""
    signing = signer()
    told = answer(status, date=formatdate(NOW + off, usegmt=True))
    assert signing.again(outgoing(), told, ACCOUNT) is again
    assert signing.again(outgoing(), told, ACCOUNT) is False
    moment = datetime.fromtimestamp(NOW + (off if again else 0), UTC).strftime("%Y%m%dT%H%M%SZ")
    assert signing.inject(outgoing(), ACCOUNT).headers["X-Amz-Date"] == moment


@pytest.mark.parametrize("date", ("", "yesterday", "Thu, 01 Jan 99999 00:00:00 GMT", "1700000000"))
def test_a_date_that_is_none_changes_nothing(date: str) -> None:
    """An upstream may say anything."""
    assert signer().again(outgoing(), answer(403, date=date), ACCOUNT) is False
    assert signer().again(outgoing(), answer(403), ACCOUNT) is False


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    (
        ({"service": "s3"}, "type.region: is missing."),
        ({"region": "eu-west-1"}, "type.service: is missing."),
        ({"service": "s3/x", "region": "eu-west-1"}, "type.service: has a character"),
        ({"service": "s3", "region": "EU"}, "type.region: has a character"),
        ({"service": "s3", "region": "x", "external_id": "a"}, "type.external_id: means nothing without `role_arn`."),
        ({"service": "s3", "region": "x", "rolearn": "a"}, "type.rolearn: there is no such key."),
        ({"service": "s3", "region": "x", "role_arn": ROLE, "sts_url": "http://a.test"}, "type.sts_url: is http://"),
        (
            {"service": "s3", "region": "x", "role_arn": ROLE, "duration_seconds": 60},
            "type.duration_seconds: is out of",
        ),
        ({"service": "s3", "region": "x", "role_arn": "nothing"}, "type.role_arn: "),
    ),
)
def test_mistakes_are_told(options: dict[str, Any], problem: str) -> None:
    """With the key and the remedy."""
    pool = PoolConfig(
        name="p",
        type="aws_sigv4",
        type_options=options,
        hosts=(HostPattern.parse("s3.test"),),
        inject=PluginInjection(name="aws_sigv4", options=options, by_type=True),
    )
    plugins = Plugins()
    with pytest.raises(ConfigurationError) as refused:  # noqa: PT012 - whichever of them it is
        plugins.token_source(pool)
        plugins.injectors({"p": pool})
    assert f"pools.p.{problem}" in str(refused.value)
