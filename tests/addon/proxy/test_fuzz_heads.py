"""Whatever head comes over a real socket: the upstream gets no more than was accepted, and nothing for others."""

import asyncio
import random
import re
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress

import pytest

from support.gateway import RunningGateway
from support.gateway_clients import add_client
from support.pool_rig import Rig, gateway_master
from support.scripted import RawConnection, RawUpstream

pytestmark = pytest.mark.mitmproxy

HEADS = 120
PATIENCE_SECONDS = 0.03
"""A head that is not whole is waited for by the gateway; so long it is let wait. Nothing depends on it."""
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n"
LINES = (
    *(
        b"Host: evil.test",
        b"Host : evil.test",
        b"Host:evil.test:80",
        b"\tfolded: x",
        b" folded",
        b"X: \x00",
        b"X:\x00y",
    ),
    *(
        b"Content-Length: 5",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0",
        b"Content-Length: -1",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"X: a\nHost: b"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: chunked, chunked"),
    *(
        b"Transfer-Encoding: gzip, chunked",
        b"X: " + b"a" * 70_000,
        b"no colon",
        b": no name",
        b"X\xff: y",
        b"X: a\rY: b",
    ),
    *(
        b"Authorization: Bearer mine",
        b"Connection: Authorization",
        b"Connection: Host",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
    ),
)
ENDS = (b"\r\n", b"\n", b"\r\n", b"\r\n")
BODIES = (
    b"",
    b"",
    b"hello",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;x\nhello\n0\n\n",
    b"0\r\n\r\n" + SECOND,
    b"hello" + SECOND,
)


class Recorder:
    """An upstream that keeps each head that arrives, and answers it."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.rest: list[bytes] = []

    async def __call__(self, connection: RawConnection) -> None:
        while head := await connection.head():
            self.heads.append(head)
            lower = head.lower()
            if re.search(rb"\r\ntransfer-encoding:[^\r]*chunked\r", lower):
                while size := int(await connection.reader.readuntil(b"\r\n"), 16):
                    await connection.reader.readexactly(size + 2)
                await connection.reader.readuntil(b"\r\n")
            elif b"content-length: " in lower:
                length = lower.partition(b"content-length: ")[2].partition(b"\r")[0]
                await connection.reader.readexactly(int(length))
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def odd_head(rng: random.Random, authority: str, *, reverse: bool) -> bytes:
    """A request of odd lines, most of them for the pool's own host."""
    path = rng.choice([*["/v1/x"] * 12, "/v1/x y", "//evil.test/v1", "/v1/\x00", "*", "", "/v1/#x", "evil.test:80"])
    own, other = f"http://{authority}{path}", rng.choice([f"http://evil.test{path}", f"http://a@{authority}{path}"])
    target = rng.choice([*[path] * 8, own, other] if reverse else [*[own] * 8, path, other])
    version = rng.choice([*["HTTP/1.1"] * 16, "HTTP/1.0", "HTTP/1.2", "http/1.1", ""])
    first = f"{rng.choice([*['GET', 'POST'] * 6, 'TRACE', 'G T', 'get'])} {target} {version}".encode("latin-1")
    lines = [f"Host: {authority}".encode(), *rng.sample(LINES, rng.randrange(3))]
    rng.shuffle(lines)
    return rng.choice(ENDS).join([first, *lines, b"", b""]) + rng.choice(BODIES)


async def exchange(port: int, data: bytes, patience_seconds: float = 30) -> bytes:
    """What is answered to these bytes until the gateway closes the connection, or for so long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    try:
        with suppress(ConnectionError, TimeoutError):
            writer.write(data)
            async with asyncio.timeout(patience_seconds):
                while piece := await reader.read(65536):
                    answer += piece
        return bytes(answer)
    finally:
        writer.close()


def exceptions(gateway: RunningGateway) -> Sequence[str]:
    return [record.getMessage() for record in gateway.log if record.exc_info or "crashed" in record.getMessage()]


@pytest.mark.parametrize("mode", ("regular", "reverse"))
async def test_odd_heads(rig: Rig, mode: str) -> None:
    """Of each, one request at most reaches the upstream; with the credential, for its own host only."""
    recorder, rng = Recorder(), random.Random(random.random())  # as the run's seed says
    async with RawUpstream(recorder) as upstream:
        home = rig.home("alice", hosts=[upstream.authority], gateway={"unmatched": "block"})
        spec = "regular" if mode == "regular" else f"reverse:{upstream.url}"
        async with gateway_master(home, mode=spec) as gateway:
            own = f"127.0.0.1:{gateway.port}" if mode == "reverse" else upstream.authority
            for _ in range(HEADS):
                data, before = odd_head(rng, own, reverse=mode == "reverse"), len(recorder.heads)
                await exchange(gateway.port, data, PATIENCE_SECONDS)
                arrived = recorder.heads[before:]
                assert len(recorder.heads) <= len(gateway.flows), (data[:300], arrived)
                for head in arrived:
                    assert head.lower().count(b"\r\nhost: ") == 1, data[:300]
                    assert f"\r\nhost: {upstream.authority}\r\n".encode() in head.lower(), (data[:300], head[:300])
                    assert b"smuggled" not in head, data[:300]
                    assert b"evil.test" not in head.partition(b" HTTP/1.1\r\n")[0] or b"//evil.test/v1" in head, data[
                        :300
                    ]
            target = "/v1/last" if mode == "reverse" else f"{upstream.url}/v1/last"
            last = await exchange(
                gateway.port, f"GET {target} HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n".encode()
            )
            assert last.startswith(b"HTTP/1.1 200 OK")
            assert exceptions(gateway) == []


def odd_fields(rng: random.Random, key: str) -> bytes:
    """Fields with what is nearly a key, or one in a form that is not accepted."""
    wrong = rng.choice(
        [
            key[:-1],
            key.upper(),
            key + "0",
            f"{key[:-1]}\x00",
            key[::-1],
            key * 40,
            "\xff" + key,
            key[:20] + "\x00" + key[20:],
            "",
        ]
    )
    coded = b64encode(f"{rng.choice(['', 'u:', ':', ':::'])}{wrong}".encode("latin-1")).decode()
    coded = rng.choice([coded, coded.rstrip("="), coded[:-3], f"={coded}", coded[:9] + " " + coded[9:], "A" * 65_000])
    value = rng.choice(
        [
            wrong,
            f"Bearer {wrong}",
            f"bEARER  {wrong}",
            f"Basic {coded}",
            f"BASIC\t{coded}",
            f"Digest {wrong}",
            "Bearer",
            "Basic",
            "Basic ====",
        ]
    )
    name = rng.choice(
        ["Proxy-Authorization", "proxy-authorization", "Authorization", "X-Api-Key", "x-goog-api-key", "Cookie"]
    )
    return f"{name}: {value}\r\n".encode("latin-1")


@pytest.mark.parametrize("mode", ("regular", "reverse"))
async def test_odd_keys(rig: Rig, mode: str) -> None:
    """Without the exact key nobody is let in, nothing is raised, and no key is in the log."""
    recorder, rng = Recorder(), random.Random(random.random())  # as the run's seed says
    async with RawUpstream(recorder) as upstream:
        home = rig.home("alice", hosts=[upstream.authority], gateway={"client_keys": "required"})
        key = add_client(home)
        spec = "regular" if mode == "regular" else f"reverse:{upstream.url}"
        async with gateway_master(home, mode=spec) as gateway:
            own = f"127.0.0.1:{gateway.port}" if mode == "reverse" else upstream.authority
            target = "/v1/x" if mode == "reverse" else f"{upstream.url}/v1/x"
            for _ in range(HEADS):
                first = target if mode == "reverse" or rng.random() < 0.6 else upstream.authority
                method = "CONNECT" if first == upstream.authority else "GET"
                fields = b"".join(odd_fields(rng, key) for _ in range(rng.randrange(1, 4)))
                data = f"{method} {first} HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n".encode() + fields + b"\r\n"
                answer = await exchange(gateway.port, data)
                assert not answer.startswith(b"HTTP/1.1 200"), data[:400]
            assert recorder.heads == []
            assert exceptions(gateway) == []
            told = "\n".join(gateway.messages)
            assert key.split("_")[2][:20] not in told
            good = f"GET {target} HTTP/1.1\r\nHost: {own}\r\nX-Api-Key: {key}\r\nConnection: close\r\n\r\n".encode()
            assert (await exchange(gateway.port, good)).startswith(b"HTTP/1.1 200 OK")
