"""Gateway keys with `mitmdump` and `authpool` as people run them: every mode at once, and all that they leave."""

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

from authpool.clients.key import new_key
from support.answers import JSON
from support.command_line import authpool_on
from support.gateway import Mitmdump
from support.gateway_clients import PLACES, SocksRefusedError, basic, through_socks
from support.home import write_account
from support.pool_rig import Rig, client, proxied
from support.ports import free_port
from support.streams import event_stream
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

SCRIPT = Path(__file__).parents[3] / "addon" / "gateway.py"


def traces(key: str) -> list[bytes]:
    """What would give a key away: its secret as it is, and in Base64 as user or password."""
    secret = key.split("_")[2]
    encoded = [b64encode(f"{lead}{key}".encode())[8:40] for lead in ("", "c", "ci")]
    return [secret.encode(), secret[:28].encode(), *encoded]


async def test_every_mode_lets_keys_in_and_shows_none(rig: Rig, confdir: Path, authority: Any, tmp_path: Path) -> None:
    """Regular (plain, CONNECT, either HTTP), reverse, SOCKS, upstream; wrong and malformed requests between."""
    async with Upstream(authority.server_context(http2=True)) as tls:
        second = rig.pool() | {"hosts": [tls.authority]}
        rig.upstream.respond = tls.respond = lambda _request: JSON(200, {})
        home = rig.home("alice", pools={"tls": second})
        write_account(home, "tls/bob", {"token": rig.token("bob")})
        tls.accept(rig.provider)
        added = await authpool_on(home, "client", "add", "ci", "--expires", "1d")
        key = added.out.strip()
        ports = [free_port() for _ in range(3)]
        modes = ["regular", f"reverse:{rig.upstream.url}@{ports[0]}", f"socks5@{ports[1]}"]
        modes += [f"upstream:http://{rig.upstream.authority}@{ports[2]}"]
        settings = ["-v", "--set", "flow_detail=4", "--set", f"ssl_verify_upstream_trusted_ca={authority.ca_file}"]
        flows = tmp_path / "flows"
        settings += ["-w", str(flows), "--set", "authpool_access_log=json"]
        arguments = ["-s", str(SCRIPT), *settings, *(part for mode in modes for part in ("--mode", mode))]
        async with Mitmdump(*arguments, home=home, confdir=confdir) as gateway:
            await gateway.wait_for("Pool p reloaded")
            reverse, upstream_mode = (f"http://127.0.0.1:{port}" for port in (ports[0], ports[2]))
            url = f"{rig.upstream.url}/x"
            async with client("", proxy=gateway.url) as plain, client(reverse) as api:
                for fields in (place(key) for place in PLACES.values()):
                    assert (await plain.get(url, headers=fields)).status_code == 200
                    assert (await api.get("/x", headers=fields)).status_code == 200
                assert (await api.get(f"/x?a=1&key={key}")).status_code == 200
                assert (await plain.get(url)).status_code == 401
                for wrong in (key[:-1], new_key().text):
                    assert (await api.get("/x", headers={"x-api-key": wrong})).status_code == 401
            async with client("", proxy=upstream_mode) as behind:
                assert (await behind.get(url, headers={"Proxy-Authorization": basic("ci", key)})).status_code == 200
            for http2 in (False, True):
                async with proxied(gateway.url.replace("//", f"//ci:{key}@"), confdir, http2=http2) as tunnel:
                    answer = await tunnel.get(f"{tls.url}/x")
                    assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
            with pytest.raises(httpx.ProxyError, match="407"):
                async with proxied(gateway.url.replace("//", f"//ci:{key[:-1]}@"), confdir) as tunnel:
                    await tunnel.get(f"{tls.url}/x")
            reader, writer = await through_socks(ports[1], rig.upstream.port, "ci", key)
            writer.write(f"GET /x HTTP/1.1\r\nHost: {rig.upstream.authority}\r\n\r\n".encode())
            assert b" 200 " in await reader.readline()
            writer.close()
            with pytest.raises(SocksRefusedError):
                await through_socks(ports[1], rig.upstream.port, "ci", key[:-1])
            await send_malformed(gateway.port, key)
            await gateway.wait_for("Client closed connection before completing request headers")
            listed = await authpool_on(home, "client", "list")
        received = str([*rig.upstream.received, *tls.received])
        left = [gateway.text.encode(), flows.read_bytes(), received.encode(), listed.out.encode()]
        left += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        assert [trace for trace in traces(key) for text in left if trace in text] == []
        assert "mitmproxy has crashed" not in gateway.text
        assert '"client": "ci"' in gateway.text
        assert len(rig.upstream.received) == 2 * len(PLACES) + 3


async def send_malformed(port: int, key: str) -> None:
    """Requests that mitmproxy can't read, and one that is cut off, with a key in each."""
    basic_key = b64encode(f":{key}".encode()).decode()
    for head in (
        f"GET http://127.0.0.1/?key={key} more HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nProxy-Authorization Bearer {key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nx-api-key: {key}\r\nContent-Length: many\r\n\r\n",
        f"GET / HTTP/1.1\r\nProxy-Authorization: Basic {basic_key}\r\nAutho",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        writer.write_eof()
        await reader.read()
        writer.close()


async def test_a_removal_on_the_command_line_cuts_what_is_under_way(rig: Rig, confdir: Path) -> None:
    """In a gateway of another process; and the usage is in the list."""
    home = rig.home("alice")
    gate = asyncio.Event()
    rig.upstream.respond = lambda _request: event_stream(gate=gate)
    key = (await authpool_on(home, "client", "add", "ci")).out.strip()
    mode = f"reverse:{rig.upstream.url}"
    async with Mitmdump("-s", str(SCRIPT), "--mode", mode, home=home, confdir=confdir) as gateway:
        await gateway.wait_for("Pool p reloaded")
        async with (
            client(gateway.url, headers={"x-api-key": key}) as api,
            api.stream("GET", "/x") as answer,
        ):
            pieces = answer.aiter_bytes()
            assert await anext(pieces)
            assert (await authpool_on(home, "client", "remove", "ci")).status == 0
            with pytest.raises(httpx.HTTPError):
                await asyncio.wait_for(anext(pieces), 20)
            refused = await api.get("/x")
        assert (refused.status_code, "removed" in refused.json()["detail"]) == (401, True)
        await gateway.wait_for("Cutting off a request of client ci")
