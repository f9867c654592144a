"""Where the key pairs come from: an account's own, and the role that it assumes."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import Account, OAuthClient
from authpool.errors import (
    CredentialDeadError,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    TokenSourceError,
)
from authpool.refresh.token_source import TokenSource
from authpool.testing.token_sources import TokenSourceConformance
from authpool_aws_keys import AccountKeys, AssumedRole
from authpool_aws_signature import Keys
from support.answers import HTML, Reset, send
from support.command_line import authpool_on
from support.exchange import Reply, Request
from support.home import make_home, read_account, write_account
from support.pool_rig import Rig, client, reverse_gateway
from support.upstream import Upstream

PAIR = OAuthClient(client_id="AKIAALICE", client_secret="the/secret+of-alice=")
ACCOUNT = Account(pool="aws", name="123456789012", client=PAIR)
ROLE = "arn:aws:iam::{account}:role/CI"


class Sts:
    """What STS answers to AssumeRole."""

    def __init__(
        self,
        status: int = 200,
        code: str = "",
        message: str = "User: arn:aws:iam::1:user/a is not authorized",
        *,
        lifetime_seconds: int = 3600,
        key: str = "ASIA",
    ) -> None:
        self.status, self.code, self.message, self.key = status, code, message, key
        self.ends_at = int(time.time()) + lifetime_seconds

    async def play(self, reply: Reply) -> None:
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.ends_at))
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{self.code}</Code>"
            f"<Message>{self.message}</Message></Error></ErrorResponse>"
            if self.status != 200
            else '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{self.key}</AccessKeyId><SecretAccessKey>role&amp;secret</SecretAccessKey>"
            f"<SessionToken>role-session==</SessionToken><Expiration>{ends}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )
        await send(reply, self.status, {"content-type": "text/xml"}, text.encode())


@pytest.fixture
async def sts() -> Any:
    async with Upstream() as upstream:
        upstream.respond = lambda request: Sts()
        yield upstream


def role(sts: Upstream, **more: Any) -> AssumedRole:
    return AssumedRole(role_arn=ROLE, sts_url=f"{sts.url}/", region="eu-west-1", **more)


class _Own(AccountKeys):
    """The accounts of the conformance tests have no key pair: this gives them one."""

    async def fetch(self, account: Account) -> Any:
        return await super().fetch(replace(account, client=PAIR))


class TestAccountKeys(TokenSourceConformance):
    @pytest.fixture
    def source(self) -> TokenSource:
        return _Own()

    @pytest.fixture
    def failing_source(self) -> TokenSource:
        return AccountKeys()


async def test_an_accounts_own_pair_lasts() -> None:
    """Until an upstream refuses it."""
    fetched = await AccountKeys().fetch(ACCOUNT)
    keys = Keys(access_key_id="AKIAALICE", secret="the/secret+of-alice=")
    assert (Keys.of_token(fetched.access_token), fetched.expires_at) == (keys, None)


async def test_a_session_of_its_own_ends_for_good() -> None:
    """Nobody but a person can bring another one."""
    ends_at = int(time.time()) + 1000
    session = replace(PAIR, extra={"session_token": "the-session", "expires_at": ends_at})
    fetched = await AccountKeys().fetch(replace(ACCOUNT, client=session))
    assert fetched.expires_at == ends_at
    assert Keys.of_token(fetched.access_token).session_token == "the-session"
    over = replace(PAIR, extra={"session_token": "the-session", "expires_at": int(time.time()) - 1})
    with pytest.raises(CredentialDeadError, match="is over"):
        await AccountKeys().fetch(replace(ACCOUNT, client=over))


def signed_by_botocore(request: Request) -> str:
    auth: Any = pytest.importorskip("botocore.auth")
    made: Any = pytest.importorskip("botocore.awsrequest")
    credentials: Any = pytest.importorskip("botocore.credentials")
    headers = {"Content-Type": request.header("content-type"), "X-Amz-Date": request.header("x-amz-date")}
    asked = made.AWSRequest("POST", f"http://{request.header('host')}{request.target}", headers, request.body)
    asked.context["timestamp"] = request.header("x-amz-date")
    signing = auth.SigV4Auth(credentials.Credentials("AKIAALICE", "the/secret+of-alice="), "sts", "eu-west-1")
    return str(signing.signature(signing.string_to_sign(asked, signing.canonical_request(asked)), asked))


async def test_a_role_is_assumed_by_a_signed_request(sts: Upstream) -> None:
    """With what AWS's documentation calls them; botocore gives it the same signature."""
    answer = Sts()
    sts.then(answer)
    source = role(sts, external_id="ex/ternal", session_name="ci", duration_seconds=900)
    fetched = await source.fetch(ACCOUNT)
    (request,) = sts.received
    assert request.form == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": "arn:aws:iam::123456789012:role/CI",
        "RoleSessionName": "ci",
        "DurationSeconds": "900",
        "ExternalId": "ex/ternal",
    }
    assert (request.header("authorization") or "").endswith(f"Signature={signed_by_botocore(request)}")
    keys = Keys(access_key_id="ASIA", secret="role&secret", session_token="role-session==")
    assert (Keys.of_token(fetched.access_token), fetched.expires_at) == (keys, answer.ends_at)
    assert "external" not in repr(source) + repr(fetched)
    assert "role-session" not in repr(source) + repr(fetched)


FAILURES: tuple[tuple[Any, type[TokenSourceError], str], ...] = (
    (Sts(403, "AccessDenied"), CredentialUnavailableError, "STS: AccessDenied: User"),
    (Sts(403, "InvalidClientTokenId"), CredentialDeadError, "STS: InvalidClientTokenId"),
    (Sts(403, "SignatureDoesNotMatch"), CredentialDeadError, "STS: SignatureDoesNotMatch"),
    (Sts(403, "ExpiredToken"), CredentialDeadError, "STS: ExpiredToken"),
    (
        Sts(403, "SignatureDoesNotMatch", "Signature expired: 20200101T000000Z is now earlier than 20200101T001000Z"),
        CredentialUnavailableError,
        "STS: SignatureDoesNotMatch: Signature expired",
    ),
    (
        Sts(403, "SignatureDoesNotMatch", "Signature not yet current: 20200101T000000Z is still later than ..."),
        CredentialUnavailableError,
        "STS: SignatureDoesNotMatch: Signature not yet current",
    ),
    (Sts(400, "ValidationError"), CredentialUnavailableError, "STS: ValidationError"),
    (Sts(400, "Throttling"), CredentialUnavailableError, "STS: Throttling"),
    (HTML(503), CredentialUnavailableError, "STS: HTTP 503"),
    (HTML(200), CredentialUnavailableError, "no key pair"),
    (Sts(200, key=""), CredentialUnavailableError, "no key pair"),
    (Reset(), CredentialUnavailableError, "STS: "),
)


@pytest.mark.parametrize(("answer", "kind", "told"), FAILURES, ids=map(str, range(len(FAILURES))))
async def test_what_sts_refuses(sts: Upstream, answer: Any, kind: type[TokenSourceError], told: str) -> None:
    """A pair that is no good needs a person; what may pass, or is the role's, is asked again."""
    sts.then(answer)
    with pytest.raises(kind) as refused:
        await role(sts).fetch(ACCOUNT)
    assert told in refused.value.detail
    assert "\n" not in refused.value.detail
    assert "of-alice" not in refused.value.detail


async def test_one_role_for_all_is_the_pools_fault(sts: Upstream) -> None:
    """With the account's name in it, it may be the account's."""
    sts.then(Sts(400, "ValidationError"))
    source = AssumedRole(role_arn=ROLE.replace("{account}", "1" * 12), sts_url=f"{sts.url}/", region="eu-west-1")
    with pytest.raises(CredentialMisconfiguredError, match="STS: ValidationError"):
        await source.fetch(ACCOUNT)


async def test_a_name_that_is_no_account_id(sts: Upstream) -> None:
    """Is told before anybody is asked."""
    with pytest.raises(CredentialDeadError, match="12 digits"):
        await role(sts).fetch(replace(ACCOUNT, name="ci"))
    assert sts.received == []


async def test_nobody_there() -> None:
    """Is no fault of the account."""
    source = AssumedRole(role_arn=ROLE, sts_url="http://127.0.0.1:1/", region="eu-west-1")
    with pytest.raises(CredentialUnavailableError, match="STS: connection refused"):
        await source.fetch(ACCOUNT)


async def test_an_account_without_a_pair(sts: Upstream) -> None:
    """Asks nobody."""
    with pytest.raises(CredentialDeadError, match="no key pair"):
        await role(sts).fetch(replace(ACCOUNT, client=None))
    assert sts.received == []


# --- as an operator has it --------------------------------------------------------------------------------------------


def pool(host: str, **options: Any) -> dict[str, Any]:
    kind = {"name": "aws_sigv4", "service": "s3", "region": "eu-west-1", **options}
    return {"type": kind, "hosts": [host]}


def key_file(folder: Path, text: str) -> str:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(0o600)
    return f"@{path}"


JSON_PAIR = '{"AccessKeyId": "AKIAALICE", "SecretAccessKey": "the/secret+of-alice="}'
INI_PAIR = "[ci]\naws_access_key_id = AKIAALICE\naws_secret_access_key = the/secret+of-alice=\n"


@pytest.mark.parametrize("text", (JSON_PAIR, INI_PAIR), ids=("json", "credentials-file"))
async def test_a_pair_is_added(tmp_path: Path, text: str) -> None:
    """And kept beside the account, which is ready at once."""
    home = make_home(tmp_path, pools={"aws": pool("s3.test")})
    added = await authpool_on(home, "add", "aws", key_file(tmp_path, text), "ci")
    assert (added.status, added.out, added.err) == (0, "Added aws/ci\n", "")
    document = read_account(home, "aws/ci")
    assert document["client"] == {"client_id": "AKIAALICE", "client_secret": "the/secret+of-alice="}
    assert Keys.of_token(document["token"]["access_token"]).access_key_id == "AKIAALICE"
    told = await authpool_on(home, "accounts", "--json")
    assert "the/secret" not in told.out + told.err
    assert '"ready"' in told.out


@pytest.mark.parametrize(
    ("text", "name", "told"),
    (
        (JSON_PAIR, (), "say what the account is called: authpool add aws SOURCE NAME"),
        (
            "a-secret",
            ("ci",),
            "the source holds no key pair, and accounts of aws have one: authpool add aws SOURCE NAME",
        ),
        ('{"AccessKeyId": "AKIA"}', ("ci",), "holds no SecretAccessKey"),
        (INI_PAIR + INI_PAIR.replace("ci", "other"), ("ci",), "holds 2 profiles"),
    ),
    ids=("no-name", "no-pair", "half-a-pair", "two-profiles"),
)
async def test_what_can_not_be_added(tmp_path: Path, text: str, name: tuple[str, ...], told: str) -> None:
    """Is refused in a line that says what would be right."""
    home = make_home(tmp_path, pools={"aws": pool("s3.test")})
    added = await authpool_on(home, "add", "aws", key_file(tmp_path, text), *name)
    assert added.status == 1
    assert told in added.err
    assert "of-alice" not in added.err
    assert list((home / "accounts").rglob("*.toml")) == []


async def test_a_dead_pair_is_added_again(tmp_path: Path, sts: Upstream) -> None:
    """STS does not know the key: the account is disabled; a new pair takes it back."""
    home = make_home(tmp_path, pools={"aws": pool("s3.test", role_arn=ROLE, sts_url=f"{sts.url}/")})
    assert (await authpool_on(home, "add", "aws", key_file(tmp_path, JSON_PAIR), "123456789012")).status == 0
    sts.then(Sts(403, "InvalidClientTokenId"))
    refreshed = await authpool_on(home, "refresh", "aws/123456789012")
    assert refreshed.status == 1
    document = read_account(home, "aws/123456789012")
    assert document["disabled"] is True
    assert "InvalidClientTokenId" in document["disabled_reason"]
    new = JSON_PAIR.replace("AKIAALICE", "AKIANEW")
    added = await authpool_on(home, "add", "aws", key_file(tmp_path, new), "123456789012")
    assert added.status == 0
    assert "enabled again" in added.out
    document = read_account(home, "aws/123456789012")
    assert document["disabled"] is False
    assert document["client"]["client_id"] == "AKIANEW"


async def test_a_role_that_refuses_is_not_added(tmp_path: Path, sts: Upstream) -> None:
    """Nothing is written."""
    home = make_home(tmp_path, pools={"aws": pool("s3.test", role_arn=ROLE, sts_url=f"{sts.url}/")})
    sts.then(Sts(403, "AccessDenied"))
    added = await authpool_on(home, "add", "aws", key_file(tmp_path, JSON_PAIR), "123456789012")
    assert added.status == 1
    assert "there is no token for aws/123456789012: STS: AccessDenied" in added.err
    assert list((home / "accounts").rglob("*.toml")) == []


@pytest.mark.mitmproxy
async def test_a_role_is_assumed_anew_before_it_ends(rig: Rig, sts: Upstream) -> None:
    """By the schedule: no request waits, and each has a pair that lives."""
    kind = pool("", role_arn=ROLE, sts_url=f"{sts.url}/")["type"]
    rig.home(type=kind, token_url=None, client_id=None, client_secret=None)
    rig.upstream.accept({None})
    rig.upstream.credential_of = lambda request: None
    sts.then(Sts(key="ASIAFIRST", lifetime_seconds=2))
    sts.respond = lambda request: Sts(key="ASIALATER")
    pair = {"client_id": PAIR.client_id, "client_secret": PAIR.client_secret}
    write_account(rig.path, "p/123456789012", {"client": pair})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = []
        async with asyncio.timeout(30):
            while not (rig.upstream.received and "Credential=ASIALATER/" in authorization_of(rig.upstream)):
                answers.append((await api.get("/bucket/key")).status_code)
    assert set(answers) == {200}
    assert rig.upstream.received[-1].header("x-amz-security-token") == "role-session=="


def authorization_of(upstream: Upstream) -> str:
    """The field of the request that came last."""
    return upstream.received[-1].header("authorization") or ""
