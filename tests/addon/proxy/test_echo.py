"""What an upstream repeats of the credential: not in the flow, and in no header on the way to the client."""

import asyncio
import gzip
import json
import random
import string
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http, tcp
from mitmproxy.net import encoding
from wsproto.utilities import generate_accept_token

from authpool.proxy.echo import LOOKED_AT_BYTES, Echo
from support.answers import send
from support.exchange import Reply
from support.gateway import RunningGateway
from support.home import write_account
from support.http1 import Http1Reply
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.raw_client import head, send_raw
from support.streams import PacedStream
from support.upstream import Upstream

SECRET = "ab/Cd+eF0123456789=GhIjKlMnOpQrStUv"
SHOWN = "[authpool]"

FORMS = {
    "plain": SECRET,
    "percent-encoded": quote(SECRET, safe=""),
    "percent-encoded, small": quote(SECRET, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "percent-encoded in part": quote(SECRET, safe="+="),
    "percent-encoded twice": quote(quote(SECRET, safe=""), safe=""),
    "json": SECRET.replace("/", "\\/"),
    "json, unicode": SECRET.replace("/", "\\u002F").replace("+", "\\u002b").replace("=", "\\u003d"),
    "javascript": SECRET.replace("/", "\\x2f"),
    "html": SECRET.replace("/", "&#x2F;").replace("+", "&#43;").replace("=", "&equals;"),
    "base64": b64encode(SECRET.encode()).decode(),
    "base64, behind a name": b64encode(f"user:{SECRET}".encode()).decode(),
    "hex": SECRET.encode().hex(),
    "hex, capital": SECRET.encode().hex().upper(),
    "percent-encoded, all of it": "".join(f"%{byte:02X}" for byte in SECRET.encode()),
    "percent-encoded, all of it, small": "".join(f"%{byte:02x}" for byte in SECRET.encode()),
    "percent-encoded twice, all of it": "".join(f"%25{byte:02X}" for byte in SECRET.encode()),
    "json, unicode, all of it": "".join(f"\\u{byte:04x}" for byte in SECRET.encode()),
    "json, unicode, all of it, capital": "".join(f"\\u{byte:04X}" for byte in SECRET.encode()),
    "javascript, all of it": "".join(f"\\x{byte:02x}" for byte in SECRET.encode()),
    "html, all of it": "".join(f"&#{byte};" for byte in SECRET.encode()),
    "html, all of it, hex": "".join(f"&#x{byte:x};" for byte in SECRET.encode()),
    "small letters": SECRET.lower(),
    "capitals": SECRET.upper(),
    "UTF-16": SECRET.encode("utf-16-le").decode("latin-1"),
    "UTF-16, the other order": SECRET.encode("utf-16-be").decode("latin-1"),
    "hex of two thirds": SECRET[: len(SECRET) * 2 // 3 + 1].encode().hex(),
    "two thirds": SECRET[: len(SECRET) * 2 // 3 + 1],
    "the last two thirds": SECRET[len(SECRET) // 3 :],
}


# --- finding it -----------------------------------------------------------------------------------------------------


def echo(*, for_client: bool = False) -> Echo:
    return Echo(SECRET, SHOWN, for_client=for_client)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_covered_however_it_is_written(form: str) -> None:
    """As long as before, and what stands around it is as it was."""
    content = b'{"a": "' + FORMS[form].encode() + b'", "b": 1}'
    covered = echo().body(content)

    assert len(covered) == len(content)
    assert covered.startswith(b'{"a": "')
    assert covered.endswith(b'", "b": 1}')
    assert FORMS[form].encode() not in covered
    assert b"GhIjKl" not in covered
    assert SHOWN.encode() in covered


def test_it_is_found_again_and_again() -> None:
    """Every time it is repeated; and what is left is what it was."""
    parts = [b"<", *(FORMS[form].encode() + b"|" for form in FORMS), b">"]
    covered = echo().body(b" ".join(parts) * 3)
    assert covered.count(SHOWN.encode()) == len(FORMS) * 3
    assert covered.count(b"<") == covered.count(b">") == 3


def test_a_body_without_it_is_the_very_same() -> None:
    """Nothing is copied where there is nothing to cover."""
    for content in (b"", b"x" * 100, SECRET[: len(SECRET) // 3].encode(), b"GhIjKl" * 5, b"%zz%", b"\\u00&#"):
        assert echo().body(content) is content
    fields = ((b"location", b"/x?a=%20%2F"), (b"x", b"GhIjKl"))
    assert echo().fields(fields) is fields or echo().fields(fields) == fields


def test_a_secret_of_a_few_characters_is_not_looked_for() -> None:
    """It would be found everywhere."""
    assert Echo("abc", SHOWN).body(b"abc abc") == b"abc abc"
    assert Echo("abcdef", SHOWN).body(b"abc abcdef") == b"abc ******"
    assert Echo("a-b-c-d-e-f-g", SHOWN).body(b"a-b-c-d-e-f-g") == b"[authpool]***"


@pytest.mark.parametrize(
    ("coding", "compress"),
    (("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress)),
)
def test_a_compressed_body_is_compressed_anew(coding: str, compress: object) -> None:
    """In the same coding, which its header goes on to tell."""
    content = compress(b"a " + SECRET.encode() + b" b")  # type: ignore[operator]
    covered = http.Response.make(200, b"", {"content-encoding": coding.removeprefix("x-")})
    covered.raw_content = echo().body(content, coding)
    assert covered.content == b"a " + SHOWN.encode().ljust(len(SECRET), b"*") + b" b"
    assert echo().body(content[:5], coding) == content[:5]


def test_what_cannot_be_read_is_left() -> None:
    """A coding nobody knows, or too many of them; damage; more than a limit."""
    content = zlib.compress(SECRET.encode() * 2)
    for coding in ("compress", "gzip", "br", "zstd", "aws-chunked", "deflate, br", "br, br, br, deflate"):
        assert echo().body(content, coding) is content
    long = b"x" * LOOKED_AT_BYTES + SECRET.encode()
    assert echo().body(long) is long
    assert echo(for_client=True).body(long).endswith(b"x" + SHOWN.encode().ljust(len(SECRET), b"*"))
    assert echo().text(f"\udcff {SECRET} \ud800") == f"\udcff {SHOWN} \ud800"


def decompressed(content: bytes, coding: str) -> bytes:
    """As mitmproxy shows it, one coding after the other."""
    for name in reversed(coding.split(", ")):
        found = encoding.decode(content, name)
        assert isinstance(found, bytes)
        content = found
    return content


@pytest.mark.parametrize("coding", ("gzip, br", "br, gzip, deflate", "identity, zstd, br"))
def test_codings_upon_each_other_are_done_anew_in_order(coding: str) -> None:
    """What the field names first is innermost (RFC 9110 §8.4)."""
    content = b"a " + SECRET.encode() + b" b"
    for name in coding.split(", "):
        content = encoding.encode(content, name)
    covered = echo().body(content, coding)
    assert decompressed(covered, coding) == b"a " + SHOWN.encode().ljust(len(SECRET), b"*") + b" b"


@pytest.mark.parametrize("coding", ("compress", "gzip, br", "br", "aws-chunked", "x-gzip"))
def test_what_is_gzip_whatever_it_is_called_is_covered(coding: str) -> None:
    """And is then what it is called, where that can be written."""
    content = gzip.compress(SECRET.encode())
    covered = echo().body(content, coding)
    called = coding if coding in ("gzip, br", "br") else "gzip"
    assert decompressed(covered, called) == SHOWN.encode().ljust(len(SECRET), b"*")


@pytest.mark.parametrize("coding", ("none", "compress", "br", "gzip", "zstd", "a, b, c, d"))
def test_what_is_not_compressed_whatever_it_says_is_covered(coding: str) -> None:
    """Also where it is longer than what is decoded at most: nothing of it is cut off."""
    content = b"a " + SECRET.encode() + b" b" * LOOKED_AT_BYTES
    covered = echo().body(content, coding)
    text = covered if coding != "gzip" else gzip.decompress(covered)
    assert text.startswith(b"a " + SHOWN.encode() + b"*")
    assert SECRET.encode() not in text
    assert len(covered) == len(content) or coding == "gzip"


def test_every_member_of_a_gzip_is_read() -> None:
    """RFC 1952 §2.2: they are one content, which mitmproxy shows."""
    content = gzip.compress(b"a") + gzip.compress(SECRET.encode()) + gzip.compress(b"b")
    covered = echo().body(content, "gzip")
    assert gzip.decompress(covered) == b"a" + SHOWN.encode().ljust(len(SECRET), b"*") + b"b"


def test_a_bomb_is_not_inflated() -> None:
    """Three kilobytes that say they are three megabytes: one is looked at."""
    for coding, compress in (("gzip", gzip.compress), ("br", brotli.compress)):
        bomb = compress(SECRET.encode() + bytes(3 * LOOKED_AT_BYTES))
        covered = http.Response.make(200, b"", {"content-encoding": coding})
        covered.raw_content = echo().body(bomb, coding)
        assert covered.content is not None
        assert covered.content.startswith(SHOWN.encode())
        assert len(covered.content) == LOOKED_AT_BYTES


# --- and what that costs --------------------------------------------------------------------------------------------

LONG = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=1200))
SIDES, MIDDLE = (LONG[:400], LONG[800:]), LONG[400:800]


def percent_encoded(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def unicode_escaped(text: str) -> str:
    return "".join(f"\\u{byte:04x}" for byte in text.encode())


REPEATED = {
    "plain": (LONG, LONG),
    "all but the end": (LONG, LONG[:-1]),
    "short": (SECRET, SECRET + " "),
    "percent-encoded": (LONG, percent_encoded(SIDES[0]) + MIDDLE + percent_encoded(SIDES[1])),
    "unicode": (LONG, unicode_escaped(SIDES[0]) + MIDDLE + unicode_escaped(SIDES[1])),
    "every other": (LONG, "".join(a + percent_encoded(b) for a, b in zip(LONG[::2], LONG[1::2], strict=True))),
    "a piece of a short one": (SECRET, "GhIjKl"),
    "half of a short one": (SECRET, SECRET[: len(SECRET) // 2]),
    "begun again and again": (LONG, LONG[:3]),
    "only escapes begin": (LONG, "%&\\"),
    "many zeros": (LONG, MIDDLE + "&#" + "0" * 5000),
    "one character": ("a" * 1200, "a"),
    "one character, percent-encoded": ("a" * 1200, "%61"),
    "one character and another": ("a" * 1200, "a" * 1199 + "b"),
}


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called for it, those of C as well."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("name", REPEATED)
def test_a_body_of_nothing_but_echoes_holds_nobody_up(name: str) -> None:
    """What is done for it grows with its length, and slowly: as a stream too, in pieces of whatever size."""
    secret, text = REPEATED[name]
    body = (text.encode() * (LOOKED_AT_BYTES // len(text) + 1))[:LOOKED_AT_BYTES]
    found = Echo(secret, SHOWN)
    assert calls_of(lambda: found.body(body)) < len(body)

    for size in (LOOKED_AT_BYTES, 64 * 1024, 1000):
        stream, length = found.stream(), min(len(body), 200 * size)
        pieces = [body[at : at + size] for at in range(0, length, size)]
        assert calls_of(lambda: [stream.feed(piece) for piece in pieces]) < 4 * length  # noqa: B023


@pytest.mark.parametrize("repeated", (10, 100_000))
def test_as_it_is_it_is_covered_however_often_it_is_repeated(repeated: int) -> None:
    """Also behind that which is not compared any more."""
    body = (SECRET + " ").encode() * repeated
    assert SECRET.encode() not in echo(for_client=True).body(body)
    stream = echo().stream()
    sent = b"".join(stream.feed(body[at : at + 1000]) for at in range(0, len(body), 1000)) + stream.end()
    assert len(sent) == len(body)
    assert SECRET.encode() not in sent


@pytest.mark.parametrize("form", FORMS)
def test_in_a_header_the_placeholder_is_put_back(form: str) -> None:
    """In its place, or in that of the whole value where it is written too oddly."""
    value = b"https://x.test/?key=" + FORMS[form].encode() + b"&a=b"
    (_, found), other = echo().fields(((b"Location", value), (b"x", b"y")))
    assert SHOWN.encode() in found
    assert not shows_it(found)
    assert other == (b"x", b"y")
    spelt_out = "".join(f"%{byte:02x}" for byte in SECRET.encode())
    assert echo().fields(((b"Link", spelt_out.encode()),)) == ((b"Link", SHOWN.encode()),)


@given(st.lists(st.sampled_from(["x", "ab/", "%", "%2", "a", "\\u00", "&#", SECRET[:20], *FORMS.values()])), st.data())
def test_it_makes_no_difference_how_a_stream_is_cut(parts: list[str], data: st.DataObject) -> None:
    """As long as before, and never a whole credential; what does not begin one is not held back."""
    whole = "|".join(parts).encode()
    stream, sent, left = echo().stream(), b"", whole
    while left:
        size = data.draw(st.integers(1, len(left)))
        sent += stream.feed(left[:size])
        left = left[size:]
    sent += stream.end()
    assert len(sent) == len(whole)
    for form in ("plain", "percent-encoded", "json", "html", "json, unicode"):
        assert FORMS[form].encode() not in sent
    assert [part for part in sent.split(b"|") if part == b"x"] == [part for part in whole.split(b"|") if part == b"x"]


def test_a_stream_is_not_held_back_for_nothing() -> None:
    """What can't be the beginning of the credential goes on at once."""
    stream = echo().stream()
    assert stream.feed(b"data: 1\n\n") == b"data: 1\n\n"
    assert stream.feed(b"data: " + SECRET[:5].encode()) == b"data: "
    assert stream.feed(SECRET[5:].encode() + b"\n\n") == SHOWN.encode().ljust(len(SECRET), b"*") + b"\n\n"
    assert stream.feed(SECRET[:5].encode()) == b""
    assert stream.end() == SECRET[:5].encode()


# --- a gateway ------------------------------------------------------------------------------------------------------


class Answer:
    """An upstream's answer with these headers and this body."""

    def __init__(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.body, self.status = body, status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    async def play(self, reply: Reply) -> None:
        await send(reply, self.status, self.headers, self.body)


class Raw:
    """Bytes, and then the connection is closed."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def play(self, reply: Reply) -> None:
        assert isinstance(reply, Http1Reply)
        await reply.raw(self.data)
        await reply.close()


class Watcher:
    """Takes down everything there is of a flow, at each of its stages."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def _see(self, flow: http.HTTPFlow) -> None:
        self.seen.append(json.dumps(flow.get_state(), default=repr))
        response = flow.response
        if response is not None and response.raw_content is not None:
            self.seen.append(response.get_text(strict=False) or "")

    request = responseheaders = authpool_upstream_answer = response = error = _see


def static_home(rig: Rig, **pool: object) -> None:
    """One account with a secret that every encoding changes."""
    settings = {"type": "static", "token_url": None, "client_id": None, "client_secret": None} | pool
    rig.home("alice", **settings)
    write_account(rig.path, "p/alice", {"token": {"access_token": SECRET}})
    rig.upstream.accept({SECRET})
    if "query" in str(pool.get("inject")):
        rig.upstream.credential_of = lambda request: (request.query.get("key") or [""])[-1]


QUERY = {"query": "key", "value": "{token}"}


def shows_it(text: str | bytes) -> bool:
    """Whether a text has the secret in any form."""
    text = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return any(form in text or form.replace("\\", "\\\\") in text for form in (*FORMS.values(), "GhIjKl"))


@pytest.mark.mitmproxy
@pytest.mark.parametrize(
    "inject", ({"header": "Authorization", "value": "Bearer {token}"}, QUERY), ids=("header", "query")
)
async def test_no_header_brings_it_back(rig: Rig, inject: dict[str, str]) -> None:
    """A redirect that repeats the query would carry the key to another host, and show it in the flow."""
    static_home(rig, inject=inject)
    watcher = Watcher()
    headers = {
        "location": f"https://other.test/x?key={FORMS['percent-encoded']}&a=1",
        "content_location": f"/x?key={SECRET}",
        "refresh": f"0; url=/x?key={FORMS['percent-encoded, small']}",
        "link": f'</x?key={FORMS["percent-encoded in part"]}>; rel="next"',
        "set_cookie": f"key={FORMS['percent-encoded twice']}",
        "x_login": f"https://other.test/login?state={FORMS['base64, behind a name']}",
        "x_anything": f"Bearer {SECRET}",
        "www_authenticate": f'Bearer error_description="{SECRET} is bad"',
    }
    rig.upstream.then(Answer(b"", 302, **headers))
    async with reverse_gateway(rig, watcher) as gateway:
        answer = await send_raw(gateway.port, head("GET /x?b=2 HTTP/1.1", "Host: localhost"))

    assert answer.status == 302
    assert not shows_it(answer.raw)
    assert answer.header("location") == f"https://other.test/x?key={SHOWN}&a=1"
    assert answer.header("link") == f'</x?key={SHOWN}>; rel="next"'
    assert len(watcher.seen) >= 3
    assert not any(map(shows_it, watcher.seen))


@pytest.mark.mitmproxy
@pytest.mark.parametrize(
    "answer",
    (
        f"HTTP/1.1 200 OK {SECRET}\r\nContent-Length: 0\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: {SECRET}\r\n\r\n",
        f"what is {SECRET}?\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nContent-Length: {SECRET}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nx {SECRET}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{SECRET}: 1\r\n\r\n",
        f"{SECRET}",
        f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{SECRET}",
    ),
)
async def test_an_answer_that_is_broken_shows_no_more(rig: Rig, answer: str) -> None:
    """Reason phrase, trailers, and what mitmproxy tells of an answer that it can't read: to client, flow and log."""
    static_home(rig)
    watcher = Watcher()
    rig.upstream.then(Raw(answer.encode()))
    async with reverse_gateway(rig, watcher) as gateway:
        answered = await send_raw(gateway.port, head("GET /x HTTP/1.1", "Host: localhost"))
        assert not any(map(shows_it, gateway.messages))

    assert not shows_it(answered.raw)
    assert not any(map(shows_it, watcher.seen))


@pytest.mark.mitmproxy
@pytest.mark.parametrize("redact_echo", (False, True))
@pytest.mark.parametrize("form", ("plain", "json", "base64"))
@pytest.mark.parametrize("status", (200, 401, 429))
async def test_a_body_that_repeats_it_is_covered_in_the_flow(
    *, rig: Rig, redact_echo: bool, form: str, status: int
) -> None:
    """The client gets it as it came, unless the pool says otherwise; also of an answer that is held back."""
    static_home(rig, redact_echo=redact_echo)
    watcher = Watcher()
    body = f'{{"you": "{FORMS[form]}"}}'.encode()
    rig.upstream.then(Answer(body, status, content_type="application/json"))
    async with reverse_gateway(rig, watcher) as gateway:
        answer = await send_raw(gateway.port, head("GET /x HTTP/1.1", "Host: localhost"))

    assert not any(map(shows_it, watcher.seen))
    if status == 200:
        assert len(answer.body) == len(body) == int(answer.header("content-length") or 0)
        assert (answer.body == body) is not redact_echo
        assert shows_it(answer.body) is not redact_echo
    asked = rig.upstream.received[0].header("accept-encoding")
    assert asked == ("identity" if redact_echo else None)


@pytest.mark.mitmproxy
@pytest.mark.parametrize("redact_echo", (False, True))
async def test_a_compressed_body_too(*, rig: Rig, redact_echo: bool) -> None:
    """Whatever the upstream was asked for."""
    static_home(rig, redact_echo=redact_echo)
    watcher = Watcher()
    body = gzip.compress(f'{{"you": "{SECRET}"}}'.encode())
    rig.upstream.then(Answer(body, content_encoding="gzip"))
    async with reverse_gateway(rig, watcher) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")

    assert shows_it(answer.text) is not redact_echo
    assert not any(map(shows_it, watcher.seen))
    assert any(SHOWN in seen and "you" in seen for seen in watcher.seen)


@pytest.mark.mitmproxy
@pytest.mark.parametrize("redact_echo", (False, True))
@pytest.mark.parametrize("kept", (False, True))
async def test_a_streamed_body_that_is_cut_in_the_middle_of_it(*, rig: Rig, redact_echo: bool, kept: bool) -> None:
    """With `store_streamed_bodies` the flow has it too, and shows it covered."""
    static_home(rig, redact_echo=redact_echo)
    watcher = Watcher()
    pieces = [b"data: " + SECRET[:9].encode(), SECRET[9:20].encode(), SECRET[20:].encode() + b"\n\n", b"data: end\n\n"]
    rig.upstream.then(PacedStream(pieces, "text/event-stream"))
    async with reverse_gateway(rig, watcher, store_streamed_bodies=kept) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")

    shown = SHOWN.ljust(len(SECRET), "*") if redact_echo else SECRET
    assert answer.text == f"data: {shown}\n\ndata: end\n\n"
    assert not any(map(shows_it, watcher.seen))
    assert any("data: end" in seen for seen in watcher.seen) is kept


class Sockets(Watcher):
    """Also looks at a WebSocket's messages: in their hook, and whenever the loop comes round."""

    def __init__(self) -> None:
        super().__init__()
        self.flows: list[http.HTTPFlow] = []

    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        self.flows.append(flow)
        self._see(flow)
        await asyncio.sleep(0)
        self._see(flow)

    websocket_start = websocket_end = Watcher._see


def frame(text: bytes, opcode: int = 1, mask: bytes = b"") -> bytes:
    """A short WebSocket frame (RFC 6455 §5.2), masked with zeros from a client."""
    length = bytes([len(text) | (0x80 if mask else 0)])
    return bytes([0x80 | opcode]) + length + mask + text


@pytest.mark.mitmproxy
@pytest.mark.parametrize("redact_echo", (False, True))
async def test_a_websocket_that_repeats_it(*, rig: Rig, redact_echo: bool) -> None:
    """Its messages, a ping and the reason of its end: covered wherever they are seen; two messages in one read too."""
    static_home(rig, redact_echo=redact_echo)
    watcher, said = Sockets(), f"you: {SECRET}".encode()
    shown = f"you: {SHOWN.ljust(len(SECRET), '*')}".encode()

    class Chat:
        async def play(self, reply: Reply) -> None:
            assert isinstance(reply, Http1Reply)
            accept = generate_accept_token((reply.request.header("sec-websocket-key") or "").encode()).decode()
            lines = [
                "HTTP/1.1 101 Hello",
                "upgrade: websocket",
                "connection: upgrade",
                f"sec-websocket-accept: {accept}",
            ]
            await reply.raw("\r\n".join([*lines, "", ""]).encode())
            await reply.reader.readexactly(8)
            end = frame((1000).to_bytes(2, "big") + SECRET.encode(), 8)
            await reply.raw(frame(SECRET.encode(), 9) + frame(said) + frame(said, 2) + frame(b"bye") + end)
            await reply.gone()
            await reply.close()

    rig.upstream.then(Chat())
    request = head("GET /ws HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    request = request.replace(b"close", b"Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==")
    async with reverse_gateway(rig, watcher) as gateway:
        answer = await send_raw(gateway.port, request + frame(b"hi", mask=bytes(4)))
        await gateway.wait_until(lambda: watcher.flows and watcher.flows[0].websocket.timestamp_end)  # type: ignore[union-attr]
        assert not any(map(shows_it, gateway.messages))
        messages = [message.content for message in watcher.flows[0].websocket.messages]  # type: ignore[union-attr]

    sent = shown if redact_echo else said
    assert frame(sent) + frame(sent, 2) + frame(b"bye") in answer.raw
    assert messages == [b"hi", shown, shown, b"bye"]
    assert not any(map(shows_it, watcher.seen))


class Messages(Watcher):
    """Sees what follows a 101 that is no WebSocket's, before and after other addons."""

    async def tcp_message(self, flow: tcp.TCPFlow) -> None:
        self.seen.append(repr(flow.messages).encode())
        await asyncio.sleep(0)
        self.seen.append(flow.messages[-1].content)


@pytest.mark.mitmproxy
@pytest.mark.parametrize("redact_echo", (False, True))
@pytest.mark.parametrize("at_once", (False, True), ids=("in a read of its own", "with the head"))
async def test_another_protocol_that_repeats_it(*, rig: Rig, redact_echo: bool, at_once: bool, tmp_path: Path) -> None:
    """What follows a 101 is shown covered, can be saved, and is in no log."""
    static_home(rig, redact_echo=redact_echo)
    watcher, said, saved = Messages(), f"you: {SECRET}".encode(), tmp_path / "flows"

    class Other:
        async def play(self, reply: Reply) -> None:
            switched = b"HTTP/1.1 101 Hello\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n"
            await reply.raw(switched + (said if at_once else b""))
            assert isinstance(reply, Http1Reply)
            await reply.reader.readexactly(2)
            await reply.raw(b"bye" if at_once else said)
            await reply.close()

    rig.upstream.then(Other())
    request = head("GET /x HTTP/1.1", "Host: localhost", "Upgrade: other").replace(b"close", b"Upgrade")
    async with reverse_gateway(rig, watcher, save_stream_file=str(saved)) as gateway:
        answer = await send_raw(gateway.port, request + b"hi")
        await gateway.wait_until(lambda: saved.stat().st_size)
        errors = [message for message in gateway.messages if "unserializable" in message or "Traceback" in message]
        assert not any(map(shows_it, gateway.messages))

    shown = b"you: " + SHOWN.encode().ljust(len(SECRET), b"*")
    assert (shown if redact_echo else said) in answer.raw
    assert shown in watcher.seen
    assert errors == []
    assert not any(map(shows_it, [*watcher.seen, saved.read_bytes()]))


@pytest.mark.mitmproxy
async def test_what_another_addon_makes_of_a_body_goes_to_the_client(rig: Rig) -> None:
    """It has seen the covered one."""
    static_home(rig)

    class Shouts:
        def response(self, flow: http.HTTPFlow) -> None:
            assert flow.response is not None
            flow.response.text = (flow.response.text or "").upper()

    rig.upstream.then(Answer(f"you: {SECRET}".encode()))
    async with reverse_gateway(rig, Shouts()) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).text == f"YOU: {SHOWN.upper().ljust(len(SECRET), '*')}"


@pytest.mark.mitmproxy
async def test_an_upstreams_own_authpool_error_does_not_pass_as_ours(rig: Rig, confdir: Path) -> None:
    """Neither from a pool's host nor from any other: not to the client, the flow, its comment, or the access log."""
    static_home(rig)
    said = {"authpool_error": "pool_exhausted\x1b[31m", "x_mine": "1"}
    async with Upstream() as other:
        for upstream in (rig.upstream, other):
            upstream.then(Answer(b"", 503, **said), Answer(b"", 503, authpool_error="pool_exhausted"))
        async with (
            gateway_master(rig.path, confdir=confdir, authpool_access_log="text") as gateway,
            proxied(gateway.url, confdir) as api,
        ):
            for upstream in (rig.upstream, other):
                for _ in range(2):
                    answer = await api.get(f"{upstream.url}/x")
                    assert (answer.status_code, answer.headers.get("authpool-error")) == (503, None)
            assert all("pool_exhausted" not in text for text in _told(gateway))


def _told(gateway: RunningGateway) -> list[str]:
    return [*gateway.messages, *(json.dumps(flow.get_state(), default=repr) for flow in gateway.finished)]
