"""Signing in as a user does: `authpool login` in a shell, a browser, real providers, and a gateway that follows."""

import asyncio
import base64
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authpool.demo.provider import Provider, running_provider
from support import command_line
from support.gateway import Mitmdump
from support.home import account_path, make_home, read_account, write_account
from support.mitmweb import Browser, browser, chromium
from support.node import NodeMissingError, node_is_required
from support.ports import free_port
from support.provider import OidcProvider
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

pytestmark = [pytest.mark.mitmproxy, pytest.mark.timeout(180)]

SCRIPT = Path(__file__).parent.parent / "addon" / "gateway.py"
ALICE = "alice@example.com"
HERE = {"SSH_CONNECTION": "", "SSH_TTY": "", "SSH_CLIENT": "", "CI": "", "BROWSER": ""}
FAR = {**HERE, "SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


def home_at(folder: Path, provider: Provider, **more: Any) -> Path:
    pool = {"issuer": provider.issuer, "client_id": "authpool-demo", "scopes": ["openid", "email"], **more}
    return make_home(folder, pools={"demo": {**pool, "hosts": ["127.0.0.1:9"]}})


class Login:
    """A process of `authpool login`; `url` is the address that it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = ""

    async def printed(self) -> str:
        """Wait for the address."""
        assert self.process.stderr is not None
        while not self.url:
            line = (await self.process.stderr.readline()).decode()
            assert line, f"there was no address: {self.said}"
            self.said.append(line)
            self.url = line.strip() if line.startswith("http") else ""
        return self.url

    async def until(self, pattern: str) -> str:
        """Wait for a line with the pattern in it; answers its group."""
        assert self.process.stderr is not None
        while True:
            line = (await self.process.stderr.readline()).decode()
            assert line, f"it did not come: {self.said}"
            self.said.append(line)
            if found := re.search(pattern, line):
                return found[1]

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def ended(self) -> command_line.Ended:
        out, err = await self.process.communicate()
        return command_line.Ended(self.process.returncode, out.decode(), "".join(self.said) + err.decode())


@asynccontextmanager
async def login(home: Path, *arguments: str, env: dict[str, str] | None = None) -> AsyncIterator[Login]:
    process = await command_line.start("--home", str(home), "login", *arguments, env={**HERE, **(env or {})})
    try:
        yield Login(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def sign_in(provider: Provider, url: str, email: str = ALICE) -> str:
    """Sign in at the provider's page; answers the address that the browser is sent to."""
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        response = await client.post(url, data={"sub": email})
    assert response.status_code == 302, response.text
    return response.headers["location"]


async def visit(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
        return await client.get(url)


async def test_the_address_is_alone_on_its_line_and_the_answer_on_standard_output(
    tmp_path: Path, provider: Provider
) -> None:
    """Standard error is for the person, standard output for whoever called; the page says the same."""
    home = home_at(tmp_path, provider)
    async with login(home, "demo") as running:
        page = await visit(await sign_in(provider, await running.printed()))
        ended = await running.ended()
    assert (ended.status, ended.out) == (0, f"Added demo/{ALICE}\n")
    assert f"Added demo/{ALICE}." in page.text
    assert ended.err.splitlines().count(running.url) == 1
    asked = parse_qs(urlsplit(running.url).query)
    written = account_path(home, f"demo/{ALICE}").read_text()
    code = parse_qs(urlsplit(str(page.url)).query)["code"][0]
    assert not any(secret in ended.err.replace(running.url, "") + ended.out for secret in (code, asked["state"][0]))
    assert code not in written + (home / "audit.jsonl").read_text()


async def test_a_script_gets_json(tmp_path: Path, provider: Provider) -> None:
    """Also when it is refused: who signed in, and that nothing was changed."""
    home = home_at(tmp_path, provider)
    async with login(home, "demo", ALICE, "--json") as running:
        await visit(await sign_in(provider, await running.printed(), "bob@example.com"))
        ended = await running.ended()
    told = json.loads(ended.out)
    assert (ended.status, told["ok"]) == (1, False)
    assert f"bob@example.com signed in, not {ALICE}: nothing was changed" in json.dumps(told)
    assert not account_path(home, "demo/bob@example.com").exists()


async def test_over_ssh_the_line_for_a_tunnel_is_told_and_pasting_works(tmp_path: Path, provider: Provider) -> None:
    """The port that is forwarded is the one that is listened on; what is no answer is told, and waited on."""
    home = home_at(tmp_path, provider)
    async with login(home, "demo", env=FAR) as running:
        came = await sign_in(provider, await running.printed())
        running.type("what do I do here")
        running.type(came)
        ended = await running.ended()
    port = urlsplit(came).port
    assert ended.out == f"Added demo/{ALICE}\n"
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in ended.err
    assert "@192.0.2.2\n" in ended.err
    assert "That is not it: it is neither an address nor a code." in ended.err


async def test_the_bare_code_can_be_pasted(tmp_path: Path, provider: Provider) -> None:
    """As some providers show it."""
    async with login(home_at(tmp_path, provider), "demo") as running:
        came = await sign_in(provider, await running.printed())
        running.type(parse_qs(urlsplit(came).query)["code"][0])
        assert (await running.ended()).out == f"Added demo/{ALICE}\n"


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
async def test_an_interrupt_frees_the_port_and_writes_nothing(
    tmp_path: Path, provider: Provider, number: signal.Signals
) -> None:
    """At once, with an answer and exit status 1."""
    home = home_at(tmp_path, provider)
    async with login(home, "demo") as running:
        came = parse_qs(urlsplit(await running.printed()).query)["redirect_uri"][0]
        running.process.send_signal(number)
        ended = await running.ended()
    assert ended.status == 1
    assert "interrupted before it was done. Nothing was changed" in ended.err
    assert "Traceback" not in ended.err
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", urlsplit(came).port)
    assert not (home / "accounts" / "demo").exists() or not [*(home / "accounts" / "demo").glob("*.toml")]


async def test_nobody_in_time(tmp_path: Path, provider: Provider) -> None:
    """It says so, and that nothing was changed."""
    ended = await command_line.authpool_on(home_at(tmp_path, provider), "login", "demo", "--timeout", "1", env=HERE)
    assert ended.status == 1
    assert "nobody signed in within 1 s: nothing was changed" in ended.err


async def test_a_port_that_is_taken_is_named(tmp_path: Path, provider: Provider) -> None:
    """By --port or by the configuration; no address is printed that could not come back."""
    taken = free_port()
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", taken)
    async with server:
        home = home_at(tmp_path, provider, redirect_ports=[taken])
        for arguments in (("demo",), ("demo", "--port", str(taken))):
            ended = await command_line.authpool_on(home, "login", *arguments, env=HERE)
            assert ended.status == 1
            assert f"port {taken} is taken" in ended.err
            assert "http" not in ended.err


@pytest.mark.parametrize("hangs", (True, False))
async def test_the_browser_is_started_and_never_waited_for(tmp_path: Path, provider: Provider, *, hangs: bool) -> None:
    """It gets the address as its last word, and neither our terminal nor our time."""
    told = tmp_path / "told"
    program = tmp_path / "a browser"
    program.write_text(
        f"#!/bin/sh\necho noise; echo noise >&2; cat\nprintf %s \"$1\" > '{told}.new'; mv '{told}.new' '{told}'\n"
        + ("exec sleep 60\n" if hangs else "exit 3\n")
    )
    program.chmod(0o700)
    env = {"BROWSER": f"/nowhere/browser:'{program}'"}
    async with login(home_at(tmp_path, provider), "demo", env=env) as running:
        url = await running.printed()
        while not told.exists():
            await asyncio.sleep(0.02)
        assert told.read_text() == url
        await visit(await sign_in(provider, url))
        ended = await running.ended()
    assert ended.out == f"Added demo/{ALICE}\n"
    assert "noise" not in ended.err


async def test_a_client_that_signs_and_has_extra_parameters(tmp_path: Path) -> None:
    """The code is exchanged with an assertion of its own, and with the pool's parameters and headers."""
    key = Ed25519PrivateKey.generate()
    path = tmp_path / "client.key"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    provider = RotatingProvider()
    async with ScriptedTokenEndpoint(provider) as endpoint:
        pool = {
            "token_url": endpoint.url,
            "authorize_url": f"{endpoint.server.url}/authorize",
            "client_id": "me",
            "client_key": f"file:{path}",
            "token_params": {"audience": "the-api", "resource": ["a", "b"]},
            "token_headers": {"X-Tenant": "one"},
            "hosts": ["127.0.0.1:9"],
        }
        home = make_home(tmp_path, pools={"demo": pool})
        async with login(home, "demo", "alice") as running:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(await running.printed()).query).items()}
            code = provider.code("alice", asked["code_challenge"])
            await visit(f"{asked['redirect_uri']}?{urlencode({'state': asked['state'], 'code': code})}")
            assert (await running.ended()).out == "Added demo/alice\n"
        [post] = endpoint.received
    header, claims, signature = post.form["client_assertion"].split(".")
    key.public_key().verify(_decoded(signature), f"{header}.{claims}".encode())
    assert json.loads(_decoded(claims))["sub"] == "me"
    sent = parse_qs(post.request.body.decode())
    assert (sent["audience"], sent["resource"], sent["code"]) == (["the-api"], ["a", "b"], [code])
    assert post.request.header("x-tenant") == "one"


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


# --- with a browser -----------------------------------------------------------------------------------------------


@pytest.fixture
async def oidc() -> AsyncIterator[OidcProvider]:
    try:
        async with OidcProvider(pages=True) as running:
            yield running
    except NodeMissingError as error:
        if node_is_required():
            raise
        pytest.skip(str(error))


async def click_through(page: Browser, name: str) -> str:
    """Sign in at oidc-provider's own pages, agree, and answer what the last page shows."""
    async with asyncio.timeout(60):
        while "Signed in" not in (shown := await page.look()) and "Not signed in" not in shown:
            await page.run(
                "(() => { const login = document.querySelector('input[name=login]');"
                f"if (login) {{ login.value = '{name}'; document.querySelector('input[name=password]').value = 'x'; }}"
                "const button = document.querySelector('button[type=submit]');"
                "if (button && !button.dataset.clicked) { button.dataset.clicked = 1; button.click(); } })()"
            )
            await asyncio.sleep(0.1)
    return shown


async def test_a_dead_account_comes_back_through_a_browser(tmp_path: Path, oidc: OidcProvider) -> None:
    """oidc-provider's pages, clicked by Chromium; the running gateway serves the account within a second or so."""
    if chromium() is None:
        assert os.environ.get("AUTHPOOL_REQUIRE_CLIENTS") != "1", "there is no `chromium` on the PATH"
        pytest.skip("there is no chromium")
    async with Upstream() as upstream:
        table = oidc.pool() | {"authorize_url": f"{oidc.issuer}/auth", "hosts": [f"127.0.0.1:{upstream.port}"]}
        home = make_home(tmp_path, pools={"main": table | {"authorize_params": {"prompt": "consent"}}})
        write_account(
            home,
            f"main/{ALICE}",
            {"disabled": True, "disabled_reason": "invalid_grant: x", "token": {"refresh_token": "dead"}},
        )
        async with Mitmdump("-s", str(SCRIPT), home=home) as gateway:
            async with login(home, "main", ALICE) as running:
                url = await running.printed()
                async with browser(tmp_path / "browser", url) as page:
                    shown = await click_through(page, ALICE)
                ended = await running.ended()
            assert "is enabled again" in ended.out
            assert f"main/{ALICE}" in shown
            assert "<script" not in shown
            await gateway.wait_for(f"Account main/{ALICE} re-enabled: new refresh token")
            async with httpx.AsyncClient(proxy=gateway.url, trust_env=False, verify=False) as client:
                answer = await client.get(f"http://127.0.0.1:{upstream.port}/x")
        assert answer.status_code == 200
        token = read_account(home, f"main/{ALICE}")["token"]["access_token"]
        assert upstream.received[-1].bearer == token
        assert [r.grant_type for r in (await oidc.stats()).token_requests] == ["authorization_code"]


async def test_a_second_browser_enters_the_code(tmp_path: Path, oidc: OidcProvider) -> None:
    """Over ssh, by itself: the code is typed at oidc-provider's page, and the account is there."""
    if chromium() is None:
        assert os.environ.get("AUTHPOOL_REQUIRE_CLIENTS") != "1", "there is no `chromium` on the PATH"
        pytest.skip("there is no chromium")
    device = {"authorize_url": f"{oidc.issuer}/auth", "device_url": f"{oidc.issuer}/device/auth"}
    home = make_home(tmp_path, pools={"main": oidc.pool() | device})
    async with login(home, "main", "--json", env=FAR) as running:
        url = await running.printed()
        code = await running.until(r"│ +((?:\S )+\S) +│")
        async with browser(tmp_path / "browser", url) as page:
            async with asyncio.timeout(60):
                while running.process.returncode is None:
                    await page.run(
                        "(() => { const code = document.querySelector('input[name=user_code]');"
                        f"if (code) code.value = '{code.replace(' ', '')}';"
                        "const login = document.querySelector('input[name=login]');"
                        f"if (login) login.value = '{ALICE}';"
                        "const word = document.querySelector('input[name=password]'); if (word) word.value = 'x';"
                        "const button = document.querySelector('button[type=submit]');"
                        "if (button && !button.dataset.clicked) { button.dataset.clicked = 1; button.click(); } })()"
                    )
                    await asyncio.sleep(0.2)
        ended = await running.ended()
    assert json.loads(ended.out) == {"ok": True, "message": f"Added main/{ALICE}"}
    assert "and enter this code there:" in ended.err
    stats = await oidc.stats()
    asked = [r for r in stats.token_requests if (r.grant_type or "").endswith("device_code")]
    assert asked[-1].ok
    assert {r.error for r in asked[:-1]} <= {"authorization_pending", "slow_down"}


async def test_a_timeout_is_a_number(tmp_path: Path, provider: Provider) -> None:
    """Every comparison lets `nan` pass, and it would be over at once."""
    ended = await command_line.authpool_on(home_at(tmp_path, provider), "login", "demo", "--timeout", "nan", env=HERE)
    assert ended.status == 2
    assert "nan is not a number of seconds" in ended.err
