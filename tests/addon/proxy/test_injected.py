"""What an injector is shown of a request, and the copy with what it puts on: pure functions."""

from dataclasses import replace

import pytest
from mitmproxy import http

from authpool.accounts.account import Account
from authpool.config import HostPattern, PoolConfig
from authpool.config.pool_config import PluginInjection
from authpool.proxy.credential import PLACEHOLDER, strip_credentials, with_credential
from authpool.proxy.injected import outgoing, secrets_of, take_off, with_injected
from authpool.requests.guarded_injector import GuardedInjector
from authpool.requests.injector import Injected, Injector, OutgoingRequest

POOL = PoolConfig(name="p", hosts=(HostPattern.parse("api.test"),), inject=PluginInjection(name="mine"))


class Mine(Injector):
    client_headers = frozenset({"x-proof"})
    client_parameters = frozenset({"x-sign"})

    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        return Injected(headers={"X-Proof": "1"})


GUARDED = GuardedInjector(Mine(), plugin="mine", pool="p")


def asked(target: bytes = b"/a?b=1", version: str = "HTTP/1.1", **headers: str) -> http.Request:
    made = http.Request.make("POST", "https://api.test/", content=b"body")
    made.headers = http.Headers([(name.replace("__", "-").encode(), value.encode()) for name, value in headers.items()])
    made.data.path, made.http_version = target, version
    return made


@pytest.mark.parametrize(
    ("version", "authority", "fields", "host"),
    (
        ("HTTP/1.1", b"", {"Host": "api.test:443"}, "api.test:443"),
        ("HTTP/1.1", b"other.test", {"Host": "api.test"}, "api.test"),
        ("HTTP/1.1", b"api.test", {}, "api.test"),
        ("HTTP/1.0", b"", {}, ""),
        ("HTTP/2.0", b"api.test", {}, "api.test"),
        ("HTTP/2.0", b"api.test", {"host": "API.test"}, "api.test"),
        ("HTTP/2.0", b"", {"host": "api.test"}, "api.test"),
    ),
)
def test_the_host_is_what_the_upstream_goes_by(
    version: str, authority: bytes, fields: dict[str, str], host: str
) -> None:
    """And it is told by one name alone, whichever version carries the copy on."""
    request = asked(version=version, **fields)
    request.data.authority = authority
    shown = outgoing(request, POOL, None, None)
    wire = with_injected(request, POOL, Injected(headers={"X-Proof": "1"}))
    named = [value for name, value in wire.headers.fields if name.lower() == b"host"]
    assert shown.host == host
    assert shown.header("host") is None
    assert named == ([] if version == "HTTP/2.0" and authority else [value.encode() for value in fields.values()])


def test_what_clients_prove_themselves_by_is_taken_off() -> None:
    """In any spelling, and nothing else."""
    request = asked(b"/a?X-Sign=1&x%2dsign=2&b=%7e&x-signed=3", X_Proof="mine", x__proof="mine", X__Other="1")
    take_off(request, GUARDED)
    assert request.data.path == b"/a?b=%7e&x-signed=3"
    assert request.headers.fields == ((b"X-Other", b"1"),)


def test_the_copy_alone_has_what_was_put_on() -> None:
    """In the place of all that had those names; the request that others see has the placeholder."""
    request = asked(b"/a?sig=old&b=1#part", Authorization="mine", X__Proof="1", x__proof="2", X__Other="\xff")
    strip_credentials(request, POOL)
    before = request.copy()
    wire = with_injected(
        request, POOL, Injected(headers={"X-Proof": "new", "X-None": None}, query={"sig": "a/b+c d", "gone": None})
    )
    assert wire.data.path == b"/a?b=1&sig=a%2Fb%2Bc%20d"
    assert wire.headers.fields == ((b"X-Other", b"\xc3\xbf"), (b"X-Proof", b"new"))
    assert request.get_state() == before.get_state()
    assert request.headers["authorization"] == PLACEHOLDER


def test_a_byte_is_a_character() -> None:
    """Whatever bytes a client sent, a plugin signs them, and puts them on."""
    request = asked("/é?ü=1".encode(), X__A="1")
    request.headers.fields = ((b"X-A", b"\xff\x80"), (b"x-a", b"2"))
    shown = outgoing(request, POOL, None, None)
    assert shown.target.encode("latin-1") == "/é?ü=1".encode()
    assert shown.headers == (("x-a", "\xff\x80"), ("x-a", "2"))
    wire = with_injected(request, POOL, Injected(headers={"X-B": "\xff"}))
    assert wire.headers.fields[-1] == (b"X-B", b"\xff")


def test_what_is_shown_is_what_goes_out() -> None:
    """With `redact_echo` an answer that can be read is asked for, and that is signed."""
    request = asked(Accept__Encoding="gzip", Authorization=PLACEHOLDER)
    pool = replace(POOL, redact_echo=True)
    shown = outgoing(request, pool, ((b"Accept-Encoding", b"br"), (b"X-C", b"1")), None)
    assert shown.headers == (("x-c", "1"), ("accept-encoding", "identity"))


def test_a_body_is_hashed_once_for_all_attempts() -> None:
    """Unless it is another one by then; one that streams has no hash."""
    request = asked()
    first = outgoing(request, POOL, None, None)
    assert outgoing(request, POOL, None, first.body).body is first.body
    request.content = b"changed"
    second = outgoing(request, POOL, None, first.body)
    assert second.body.content == b"changed"
    request.stream = True
    assert outgoing(request, POOL, None, second.body).body.sha256 is None


def test_what_is_covered_is_all_of_it_unless_the_plugin_says() -> None:
    """A date is no secret; who does not tell has everything covered."""
    put_on = {"X-Proof": "proof", "X-None": None}
    assert secrets_of(Injected(headers=put_on, query={"sig": "s"})) == ("proof", "s")
    assert secrets_of(Injected(headers=put_on, secrets=("other",))) == ("other",)


def test_no_other_way_puts_a_credential_of_such_a_pool_on() -> None:
    """The token alone is none, and may be a key."""
    with pytest.raises(TypeError):
        with_credential(asked(), POOL, "token")
