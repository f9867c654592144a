"""`inject = { basic = "USER:{token}" }`: HTTP Basic at the wire, and nowhere else."""

import asyncio
import gzip
import os
import shutil
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from mitmproxy import http

from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import BasicInjection, PoolConfig
from authpool.proxy.credential import strip_credentials, with_credential
from authpool.proxy.credential_echo import echo_of
from support.answers import JSON
from support.certificates import CertificateAuthority
from support.exchange import Answer, Request
from support.git_server import GitBackend, make_repository
from support.pool_rig import Rig, client, gateway_master, reverse_gateway
from support.streams import PacedStream
from support.upstream import Upstream

TOKEN = "ghs_9~AbC/dEfGhI+kLmNo"
INJECT = {"basic": "x-access-token:{token}"}
SENT = b64encode(f"x-access-token:{TOKEN}".encode()).decode()
CLIENT = Path(__file__).parents[2] / "real_clients" / "with_git.py"


def pool(template: str) -> PoolConfig:
    inject = BasicInjection(template=template)
    return PoolConfig(name="p", hosts=(HostPattern.parse("git.example.com"),), inject=inject)


def basic_of(request: Request) -> str | None:
    """What follows the user's name in a request's Basic credential."""
    scheme, _, encoded = (request.header("authorization") or "").partition(" ")
    return b64decode(encoded).decode().partition(":")[2] if scheme == "Basic" else None


@pytest.mark.parametrize(
    ("template", "sent"),
    (
        ("x-access-token:{token}", f"x-access-token:{TOKEN}"),
        ("oauth2:{token}", f"oauth2:{TOKEN}"),
        ("{token}:", f"{TOKEN}:"),
        (":{token}", f":{TOKEN}"),
        ("{token}:x-oauth-basic", f"{TOKEN}:x-oauth-basic"),
    ),
)
def test_the_pair_goes_on_in_the_place_of_the_clients_own(template: str, sent: str) -> None:
    """Whatever the client authenticates by; the flow shows a placeholder."""
    asked = http.Request.make("GET", "https://git.example.com/x", headers={"Authorization": "Basic bWU6bWluZQ=="})
    strip_credentials(asked, pool(template))
    assert asked.headers.get_all("authorization") == ["Basic [authpool]"]

    wire = with_credential(asked, pool(template), TOKEN)

    (value,) = wire.headers.get_all("authorization")
    assert b64decode(value.removeprefix("Basic "), validate=True).decode() == sent
    assert asked.headers.get_all("authorization") == ["Basic [authpool]"]


def test_a_token_that_would_be_two_is_not_sent() -> None:
    """The first colon ends the user's name (RFC 7617 §2); in a password there may be as many as there are."""
    asked = http.Request.make("GET", "https://git.example.com/x")
    with pytest.raises(ValueError, match="colon"):
        with_credential(asked, pool("{token}:"), "user:password")
    assert with_credential(asked, pool("u:{token}"), "a:b").headers["authorization"] == "Basic dTphOmI="


ECHOED = {
    "as it is": SENT,
    "percent-encoded": quote(SENT, safe=""),
    "json": SENT.replace("/", "\\/"),
    "the token": TOKEN,
    "decoded": f"x-access-token:{TOKEN}",
    "encoded again": b64encode(SENT.encode()).decode(),
}


@pytest.mark.parametrize("form", ECHOED)
def test_an_echo_is_covered_in_every_form(form: str) -> None:
    """The pair as it went out, what it holds, and the usual ways of writing either."""
    echo = echo_of(pool("x-access-token:{token}"), TOKEN)
    content = f'{{"a": "{ECHOED[form]}", "b": 1}}'.encode()

    covered = echo.body(content)
    (field,) = echo.fields(((b"x-seen", ECHOED[form].encode()),))

    assert len(covered) == len(content)
    assert b"[authpool]" in covered
    assert covered.endswith(b'"b": 1}')
    for shown in (covered, field[1], echo.text(ECHOED[form]).encode()):
        assert ECHOED[form].encode() not in shown
        assert SENT[30:42].encode() not in shown
    zipped = gzip.compress(content)
    assert ECHOED[form].encode() not in gzip.decompress(echo.body(zipped, "gzip"))


@pytest.mark.parametrize("secret", ("short", "a-secret-of-16-ch"))
def test_a_short_token_is_covered_in_its_pair(secret: str) -> None:
    """Base64 of so few characters can't be told by itself: the whole pair can."""
    pair = b64encode(f"x-access-token:{secret}".encode())
    covered = echo_of(pool("x-access-token:{token}"), secret).body(b"you sent " + pair)
    assert covered == b"you sent " + b"[authpool]".ljust(len(pair), b"*")


@pytest.mark.parametrize("form", ("as it is", "the token"))
def test_it_makes_no_difference_how_a_stream_is_cut(form: str) -> None:
    """Of two forms that are looked for, neither lets the other through."""
    data = b"<" + ECHOED[form].encode() + b"> and " + ECHOED["the token"].encode() + b"!"
    expected = echo_of(pool("x-access-token:{token}"), TOKEN).body(data)
    for size in range(1, len(data)):
        stream = echo_of(pool("x-access-token:{token}"), TOKEN).stream()
        pieces = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
        assert b"".join([*pieces, stream.end()]) == expected


@pytest.mark.mitmproxy
@pytest.mark.parametrize("streamed", (False, True))
async def test_an_upstream_that_repeats_the_pair(*, rig: Rig, streamed: bool) -> None:
    """Neither the flow nor a header of the answer has it; with `redact_echo` nor has the body."""
    rig.home("alice", inject=INJECT, redact_echo=True)
    rig.upstream.credential_of = basic_of

    def repeat(request: Request) -> Answer:
        pair = (request.header("authorization") or "").encode()
        headers = {"www-authenticate": pair.decode()}
        if streamed:
            return PacedStream([b"data: " + pair[:20], pair[20:] + b"\n\n"], "text/event-stream")
        return JSON(200, {"you": pair.decode()}, headers)

    rig.upstream.respond = repeat
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x", headers={"Authorization": "Basic bWU6bWluZQ=="})
        (flow,) = gateway.flows

    sent = rig.upstream.received[0].all_headers("authorization")
    assert [basic_of(rig.upstream.received[0])] == [rig.account("alice")["token"]["access_token"]]
    assert answer.status_code == 200
    assert "[authpool]" in answer.text
    pair = sent[0].removeprefix("Basic ")
    assert pair not in answer.text + str(answer.headers) + str(flow.get_state())
    assert len(sent) == 1


@pytest.mark.mitmproxy
async def test_a_refused_pair_is_the_next_accounts_turn(rig: Rig) -> None:
    """As with any other credential: refreshed, or another account."""
    rig.home("alice", "bob", inject=INJECT)
    rig.upstream.credential_of = basic_of
    rig.provider.revoke("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        statuses = [(await api.get("/x")).status_code for _ in range(3)]
    assert statuses == [200, 200, 200]


@pytest.mark.mitmproxy
@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
async def test_git_over_https(rig: Rig, confdir: Path, authority: CertificateAuthority, tmp_path: Path) -> None:
    """`ls-remote`, a clone and a push to a server that takes Basic alone, by a git that knows no credential."""
    gate = asyncio.Event()
    gate.set()
    await make_repository(tmp_path / "git")
    async with Upstream(authority.server_context()) as upstream:
        upstream.respond = lambda _request: GitBackend(tmp_path / "git", gate)
        upstream.credential_of = basic_of
        upstream.refusal = JSON(401, {}, {"www-authenticate": 'Basic realm="git"'})
        upstream.accept(rig.provider)
        rig.host = upstream.authority
        rig.home("alice", inject=INJECT)
        trusted = str(authority.ca_file)
        async with gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=trusted) as gateway:
            kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
            own = {"https_proxy": gateway.url, "GIT_SSL_CAINFO": str(confdir / "mitmproxy-ca-cert.pem")}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(CLIENT), upstream.url),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**kept, **own, "GIT_TERMINAL_PROMPT": "0"},
            )
            out, _ = await process.communicate(b"\n")

    assert (process.returncode, out.decode().splitlines()[-1]) == (0, "after 200")
    assert b"uploaded 1200000" in out
    assert {basic_of(request) for request in upstream.received} == {rig.account("alice")["token"]["access_token"]}
