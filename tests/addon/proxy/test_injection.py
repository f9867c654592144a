"""The hook `authpool_injection`: a plugin puts the credential on, at the wire, for every attempt anew."""

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http

from authpool.config import HostPattern, PluginInjection, PoolConfig, load_config
from authpool.errors import ConfigurationError
from authpool.plugins.manager import load_plugins
from authpool.requests.injector import Injector
from authpool.testing.injectors import InjectorConformance
from support.answers import JSON
from support.certificates import CertificateAuthority
from support.exchange import Answer, Request
from support.gateway import RunningGateway
from support.home import write_account
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.raw_client import head, send_raw
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

DOCS = Path(__file__).parents[3] / "addon" / "docs" / "plugins.md"
HMAC = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)[1]
KEY = "the-key-that-signs-0123456789"

DPOP = """
import base64, json, time, uuid
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hashlib import sha256
from authpool.plugins.api import Injected, Injector, hookimpl, injection_options

def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

class DPoP(Injector):
    client_headers = frozenset({"dpop"})

    def __init__(self, pool):
        injection_options(pool)
        self.key = ec.generate_private_key(ec.SECP256R1())
        point = self.key.public_key().public_numbers()
        self.jwk = {"kty": "EC", "crv": "P-256", "x": b64(point.x.to_bytes(32)), "y": b64(point.y.to_bytes(32))}
        self.nonces = {}

    def inject(self, request, account):
        token = account.token.access_token
        claims = {
            "jti": str(uuid.uuid4()), "htm": request.method, "htu": request.url, "iat": int(time.time()),
            "ath": b64(sha256(token.encode()).digest()), "nonce": self.nonces.get(request.host, ""),
        }
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk}
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        proof = text + "." + b64(r.to_bytes(32) + s.to_bytes(32))
        return Injected(headers={"Authorization": "DPoP " + token, "DPoP": proof}, secrets=(proof,))

    def again(self, request, answer, account):
        nonce = answer.header("dpop-nonce")
        if nonce:
            self.nonces[request.host] = nonce
        return bool(nonce) and answer.status == 401 and "use_dpop_nonce" in (answer.header("www-authenticate") or "")

@hookimpl
def authpool_injection(name):
    return DPoP if name == "dpop" else None
"""


def injector_of(text: str, name: str) -> Injector:
    """What the text of a plugin provides for a pool."""
    module: dict[str, Any] = {}
    exec(compile(text, "plugin", "exec"), module)
    pool = PoolConfig(name="p", hosts=(HostPattern.parse("a.test"),), inject=PluginInjection(name=name))
    made = module["authpool_injection"](name)(pool)
    assert isinstance(made, Injector)
    return made


class TestHmac(InjectorConformance):
    @pytest.fixture
    def injector(self) -> Injector:
        return injector_of(HMAC, "hmac")


class TestDPoP(InjectorConformance):
    @pytest.fixture
    def injector(self) -> Injector:
        return injector_of(DPOP, "dpop")


def write_plugin(rig: Rig, text: str) -> None:
    path = rig.path / "plugins" / "mine.py"
    path.write_text(text)
    path.chmod(0o600)


def signed_home(rig: Rig, plugin: str = HMAC, *names: str, **pool: Any) -> None:
    """A home whose accounts have keys that requests are signed with."""
    settings = {"type": "static", "token_url": None, "client_id": None, "client_secret": None}
    rig.home(**settings, **({"inject": {"name": "hmac", "key_id": "k-1"}} | pool))
    for name in names or ("alice",):
        write_account(rig.path, f"p/{name}", {"token": {"access_token": f"{KEY}-of-{name}"}})
    write_plugin(rig, plugin)


def is_signed(request: Request, key: str = f"{KEY}-of-alice") -> bool:
    """Whether a request, as it arrived, has the signature of that key."""
    digest = hashlib.sha256(request.body).hexdigest()
    told = [request.method, request.header("host"), request.target, request.header("x-timestamp"), digest]
    expected = hmac.new(key.encode(), "\n".join(map(str, told)).encode(), hashlib.sha256).hexdigest()
    return request.all_headers("x-signature") == [expected]


def open_to_all(rig: Rig) -> None:
    rig.upstream.accept({None})
    rig.upstream.credential_of = lambda request: None


def everything(gateway: RunningGateway) -> str:
    return json.dumps([flow.get_state() for flow in gateway.flows], default=repr) + "\n".join(gateway.messages)


class Changes:
    """Another addon, which changes a request before it goes out."""

    def request(self, flow: http.HTTPFlow) -> None:
        flow.request.headers["X-More"] = "1"
        flow.request.content = b"changed"
        flow.request.path += "&added=%C3%A9"


async def test_the_plugin_of_the_documentation_signs_what_goes_out(rig: Rig) -> None:
    """After the edits of other addons; the client's own is gone, and the flow shows neither."""
    signed_home(rig)
    open_to_all(rig)
    async with reverse_gateway(rig, Changes()) as gateway, client(gateway.url) as api:
        own = {"X-Signature": "the-clients-own", "X_Signature": "the-clients-own", "Authorization": "mine"}
        answer = await api.post("/a?b=1", content=b"body", headers=own)
        (flow,) = gateway.flows
        (request,) = rig.upstream.received
        shown = everything(gateway)

    assert answer.status_code == 200
    assert (request.target, request.body) == ("/a?b=1&added=%C3%A9", b"changed")
    assert is_signed(request)
    assert request.all_headers("authorization") == ["HMAC k-1"]
    assert flow.request.headers.get_all("authorization") == ["[authpool]"]
    assert "x-timestamp" not in flow.request.headers
    for secret in (KEY, request.header("x-signature") or "-", "the-clients-own"):
        assert secret not in shown
    assert "the-clients-own" not in str(request.headers)


async def test_an_answer_that_repeats_the_signature(rig: Rig) -> None:
    """Shows it to nobody but, in the body, to its client."""
    signed_home(rig)
    open_to_all(rig)
    rig.upstream.respond = lambda request: JSON(
        200, {"you": request.header("x-signature")}, {"x-you": str(request.header("x-signature"))}
    )
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/a")
        signature = rig.upstream.received[0].header("x-signature") or "-"
        assert answer.json() == {"you": signature}
        assert answer.headers["x-you"] == "[authpool]"
        assert signature not in everything(gateway)


@pytest.mark.parametrize("http2", (False, True))
async def test_whatever_version_carries_it(
    *, rig: Rig, confdir: Path, authority: CertificateAuthority, http2: bool
) -> None:
    """The host that is signed is the one that the upstream is told, as `:authority` or as Host."""
    async with Upstream(authority.server_context(http2=http2)) as upstream:
        rig.host = upstream.authority
        signed_home(rig)
        trusted = str(authority.ca_file)
        async with (
            gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=trusted) as gateway,
            proxied(gateway.url, confdir, http2=http2) as api,
        ):
            answer = await api.post(f"{upstream.url}/x?y=1", content=b"body")
        (request,) = upstream.received
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    told = ["POST", upstream.authority, "/x?y=1", str(request.header("x-timestamp"))]
    text = "\n".join([*told, hashlib.sha256(b"body").hexdigest()])
    expected = hmac.new(f"{KEY}-of-alice".encode(), text.encode(), hashlib.sha256).hexdigest()
    assert request.all_headers("x-signature") == [expected]
    assert all(name == name.lower() for name, _ in request.headers) or not http2
    assert request.header("host") in {None, upstream.authority}


async def test_a_streamed_body_is_refused_in_the_plugins_words(rig: Rig) -> None:
    """By the one that needs it: the client is told, and nothing goes out."""
    signed_home(rig)
    open_to_all(rig)
    async with reverse_gateway(rig, stream_large_bodies="1k") as gateway, client(gateway.url) as api:
        answer = await api.post("/a", content=b"x" * 4096)
        small = await api.post("/a", content=b"x")
    assert (answer.status_code, answer.headers["authpool-error"]) == (400, "request_refused")
    assert answer.json()["detail"] == "The body is streamed, so it can't be signed."
    assert small.status_code == 200
    assert [request.body for request in rig.upstream.received] == [b"x"]


async def test_another_account_signs_anew(rig: Rig) -> None:
    """When an upstream refuses the first; the body is hashed once."""
    signed_home(rig, HMAC, "alice", "bob")
    refused = {f"{KEY}-of-alice"}

    def judge(request: Request) -> Answer:
        bad = any(is_signed(request, key) for key in refused)
        return JSON(401 if bad else 200, {})

    open_to_all(rig)
    rig.upstream.respond = judge
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [(await api.post("/a", content=b"body")).status_code for _ in range(4)]
    assert answers == [200] * 4
    signed = [is_signed(request) or is_signed(request, f"{KEY}-of-bob") for request in rig.upstream.received]
    assert all(signed)
    assert len(signed) > 4


BROKEN = """
from authpool.plugins.api import Injected, Injector, hookimpl

class Broken(Injector):
    def __init__(self, pool):
        pass
    def inject(self, request, account):
        {body}

@hookimpl
def authpool_injection(name):
    return Broken if name == "hmac" else None
"""


@pytest.mark.parametrize(
    ("body", "told"),
    (
        ("raise RuntimeError(account.token.access_token)", "raised RuntimeError in "),
        ("return None", "answered a NoneType"),
        ("return Injected()", "put on nothing"),
        ('return Injected(headers={"X": "a\\r\\nb: c"})', "a character that no header may have"),
    ),
)
async def test_a_plugin_that_fails_lets_nothing_out(rig: Rig, body: str, told: str) -> None:
    """500, with the plugin named; not even a streamed request goes out without its credential."""
    signed_home(rig, BROKEN.format(body=body))
    open_to_all(rig)
    async with reverse_gateway(rig, stream_large_bodies="1k") as gateway, client(gateway.url) as api:
        answers = [await api.post("/a", content=content) for content in (b"x", b"x" * 4096)]
        said = [line for line in gateway.messages if told in line]
        shown = everything(gateway)
    assert [answer.status_code for answer in answers] == [500, 500]
    assert {answer.headers["authpool-error"] for answer in answers} == {"gateway_error"}
    assert rig.upstream.received == []
    assert len(said) == 1
    assert said[0].startswith("The injector of plugin mine (pool p) ")
    assert KEY not in shown


def dpop_home(rig: Rig, *names: str) -> None:
    rig.home(*names, inject={"name": "dpop"})
    write_plugin(rig, DPOP)
    rig.upstream.credential_of = lambda request: (request.header("authorization") or "").removeprefix("DPoP ")


def proof_of(request: Request) -> dict[str, Any]:
    (proof,) = request.all_headers("dpop")
    claims = proof.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    return decoded


@pytest.mark.parametrize("length", (0, 200_000))
async def test_dpop_with_a_nonce_fits(rig: Rig, length: int) -> None:
    """RFC 9449 §8: a 401 that asks for a nonce is answered by the same account, with a new proof, and no refresh."""
    dpop_home(rig, "alice")
    wants = {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": "n-1"}
    rig.upstream.respond = lambda request: (
        JSON(200, {}) if proof_of(request)["nonce"] else JSON(401, "x" * length, wants)
    )
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.post("/a?b=1", content=b"x", headers={"DPoP": "mine"}) for _ in range(2)]
        shown, comment = everything(gateway), gateway.flows[0].comment

    assert [answer.status_code for answer in answers] == [200, 200]
    proofs = [proof_of(request) for request in rig.upstream.received]
    assert [proof["nonce"] for proof in proofs] == ["", "n-1", "n-1"]
    assert len({proof["jti"] for proof in proofs}) == 3
    assert {proof["htu"] for proof in proofs} == {f"http://{rig.upstream.received[0].header('host')}/a"}
    assert rig.posts == 0
    assert "asked for another injection" in comment
    for request in rig.upstream.received:
        assert (request.header("dpop") or "-") not in shown


async def test_an_upstream_that_always_wants_another(rig: Rig) -> None:
    """Is given two, and then its answer is a 401 as any other: refreshed, then the next account's turn."""
    dpop_home(rig, "alice", "bob")
    wants = {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": "n"}
    rig.upstream.respond = lambda request: JSON(401, {}, wants)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/a")
    assert answer.status_code in {401, 503}
    assert 3 <= len(rig.upstream.received) <= 8


async def test_a_streamed_request_is_not_sent_again(rig: Rig) -> None:
    """Its answer goes to the client; the next request has what that told."""
    dpop_home(rig, "alice")
    wants = {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": "n-1"}
    rig.upstream.respond = lambda request: JSON(200, {}) if proof_of(request)["nonce"] else JSON(401, {}, wants)
    async with reverse_gateway(rig, stream_large_bodies="1k") as gateway, client(gateway.url) as api:
        first = await api.post("/a", content=b"x" * 4096)
        second = await api.post("/a", content=b"x" * 4096)
    assert (first.status_code, second.status_code) == (401, 200)


async def test_pools_without_it_know_nothing_of_it(rig: Rig) -> None:
    """Beside a pool that signs, others send what they always sent."""
    async with Upstream() as other:
        rig.home("alice", pools={"q": {"type": "static", "hosts": [other.authority], "inject": {"name": "hmac"}}})
        write_plugin(rig, HMAC)
        write_account(rig.path, "q/bob", {"token": {"access_token": KEY}})
        async with gateway_master(rig.path) as gateway:
            for upstream in (rig.upstream, other):
                target = f"GET {upstream.url}/x HTTP/1.1"
                answer = await send_raw(gateway.port, head(target, f"Host: {upstream.authority}"))
                assert answer.status == 200
    assert (rig.upstream.received[0].bearer or "").endswith("-of-alice")
    assert rig.upstream.received[0].header("x-signature") is None
    assert is_signed(other.received[0], KEY)
    assert other.received[0].header("authorization") is None


TYPED = (
    HMAC
    + """

from authpool.plugins.api import Fetched, TokenSource

class Source(TokenSource):
    async def fetch(self, account):
        return Fetched(access_token="fetched-" + account.name)

@hookimpl
def authpool_token_source(name):
    return (lambda pool: Source()) if name == "hmac" else None
"""
)


async def test_a_type_that_brings_its_injection(rig: Rig) -> None:
    """One name for both: what the source fetches is the key, and the options are the type's."""
    rig.home(type={"name": "hmac", "key_id": "k-2"}, token_url=None, client_id=None, client_secret=None)
    write_account(rig.path, "p/alice", {})
    write_plugin(rig, TYPED)
    open_to_all(rig)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/a")
    assert answer.status_code == 200
    assert is_signed(rig.upstream.received[0], "fetched-alice")
    assert rig.upstream.received[0].header("authorization") == "HMAC k-2"


@pytest.mark.parametrize(
    ("pool", "problem"),
    (
        ('inject = { name = "nobodys" }\ntype = "static"', "inject.name: no plugin provides it."),
        ('inject = { name = "hmac", kye = 1 }\ntype = "static"', "inject.kye: there is no such key."),
        ('inject = { name = "" }\ntype = "static"', "inject.name: is empty."),
        (
            'type = { name = "hmac" }\ninject = { basic = "a:{token}" }',
            "inject: means nothing here: a pool of type hmac",
        ),
        ('type = { name = "hmac", kye = 1 }', "type.kye: there is no such key."),
    ),
)
def test_mistakes_are_told_at_configuration(tmp_path: Path, pool: str, problem: str) -> None:
    """With the key, before anything is sent."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").write_text(TYPED)
    plugins = load_plugins(tmp_path, {})
    (tmp_path / "authpool.toml").write_text(f'[pools.p]\nhosts = ["a.test"]\n{pool}\n')
    (tmp_path / "authpool.toml").chmod(0o600)

    def build() -> None:
        plugins.injectors(load_config(tmp_path, {}, plugins).pools)

    with pytest.raises(ConfigurationError) as refused:
        build()
    assert f"pools.p.{problem}" in str(refused.value)
