"""Clients that people use, through TLS interception with a gateway key, while an account of theirs is revoked."""

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.answers import JSON
from support.certificates import CertificateAuthority
from support.exchange import Answer, Request
from support.gateway import Mitmdump
from support.gateway_clients import add_client
from support.git_server import GitBackend, make_repository
from support.grpc_upstream import grpc_upstream
from support.home import write_account
from support.node import NodeMissingError, install_provider, node, node_is_required
from support.pool_rig import Rig
from support.streams import WebSocketEcho, event_stream
from support.upstream import Upstream

pytestmark = [pytest.mark.mitmproxy, pytest.mark.timeout(300)]

CLIENTS = Path(__file__).parent / "real_clients"
SCRIPT = Path(__file__).parent.parent / "addon" / "gateway.py"
SECONDS = 120.0
PACKAGES = {
    "requests": "requests",
    "httpx": "httpx",
    "aiohttp": "aiohttp",
    "websockets": "websockets",
    "grpcio": "grpc",
}


@dataclass(slots=True, kw_only=True)
class Client:
    """A program that uses the gateway; it has a pool of its name with two accounts, and an upstream to itself."""

    name: str
    command: list[str]
    events: int = 3
    status: int = 200
    more: tuple[str, ...] = ()
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    @property
    def account(self) -> str:
        """The one of its accounts that is revoked."""
        return f"{self.name}-first"

    @property
    def expected(self) -> list[str]:
        """What it prints when it could do everything, sorted."""
        done = [f"plain {self.status}", *["event"] * self.events, "uploaded 1200000", *self.more]
        return sorted([*done, *[f"after {self.status}"] * 4])

    async def run(self, env: dict[str, str], revoke: Callable[[str], None]) -> list[str]:
        """Run it to its end, and answer its lines, sorted.

        The upstream makes an event when the one before it has arrived here; the account is revoked when the client
        has done all else.
        """
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self.command, self.url, stdin=pipe, stdout=pipe, env=env)
        assert process.stdout is not None
        assert process.stdin is not None
        lines: list[str] = []
        try:
            async with asyncio.timeout(SECONDS):
                async for line in process.stdout:
                    lines += [text] if (text := line.decode().strip()) else []
                    if text == "event":
                        self.gate.set()
                    if text.startswith("uploaded"):
                        revoke(self.account)
                        process.stdin.write(b"\n")
                await process.wait()
        except TimeoutError:
            lines.append(f"not done after {SECONDS:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return sorted([*lines, *([f"exit status {process.returncode}"] if process.returncode else [])])

    def answer(self, request: Request) -> Answer:
        """What its upstream says to it."""
        match request.path:
            case "/events":
                return event_stream(self.events, self.gate)
            case "/upload":
                return JSON(200, {"length": len(request.body)})
            case "/socket":
                return WebSocketEcho()
        return JSON(200, {})


class MissingError(Exception):
    """A client is not on this machine; the message names it."""


def python(name: str, **more: object) -> Client:
    package = PACKAGES.get(name)
    if package and importlib.util.find_spec(package) is None:
        raise MissingError(f"{name} (of the extra `dev`)")
    return Client(name=name, command=[sys.executable, str(CLIENTS / f"with_{name}.py")], **more)  # type: ignore[arg-type]


def on_the_path(name: str) -> None:
    if shutil.which(name) is None:
        raise MissingError(f"`{name}`")


def curl() -> Client:
    on_the_path("curl")
    return Client(name="curl", command=["sh", str(CLIENTS / "with_curl.sh")])


def git() -> Client:
    on_the_path("git")
    return python("git", events=1)


def node_fetch() -> Client:
    try:
        install_provider()
        return Client(name="node", command=[node(), str(CLIENTS / "with_node.mjs")])
    except NodeMissingError as missing:
        if node_is_required():
            raise
        raise MissingError(str(missing)) from None


def clients(missing: list[str]) -> Iterator[Client]:
    """Those that this machine has; the others are named in `missing`."""
    makers: list[Callable[[], Client]] = [
        *(curl, git, node_fetch),
        lambda: python("requests"),
        lambda: python("httpx"),
        lambda: python("aiohttp", more=("echoed hello",)),
        lambda: python("websockets", status=101),
        lambda: python("grpcio"),
    ]
    for make in makers:
        try:
            yield make()
        except MissingError as error:
            missing.append(str(error))


@asynccontextmanager
async def upstream_for(client: Client, rig: Rig, authority: CertificateAuthority) -> AsyncIterator[Upstream | None]:
    """What the client talks to: gRPC and git have servers of their own."""
    if client.name == "grpcio":
        async with grpc_upstream(rig.provider, authority.server_file.read_bytes(), client.gate) as port:
            client.url = f"https://127.0.0.1:{port}"
            yield None
        return
    async with Upstream(authority.server_context()) as upstream:
        client.url = upstream.url
        upstream.accept(rig.provider)
        upstream.respond = client.answer
        if client.name == "git":
            root = rig.folder / "git"
            await make_repository(root)
            upstream.respond = lambda _request: GitBackend(root, client.gate)
        yield upstream


@asynccontextmanager
async def gateway_for(
    rig: Rig, running: list[Client], confdir: Path, authority: CertificateAuthority
) -> AsyncIterator[tuple[Mitmdump, dict[str, str]]]:
    """A `mitmdump` with a pool for each client and one client's key; gives it and the clients' environment."""
    # A client ID for each: several accounts of one client revoked at once would count as its fault, not theirs.
    hosts = {client.name: client.url.removeprefix("https://") for client in running}
    home = rig.home(pools={name: rig.pool(hosts=[host], client_id=name) for name, host in hosts.items()})
    for client in running:
        for name in (client.account, f"{client.name}-second"):
            write_account(home, f"{client.name}/{name}", {"token": rig.token(name)})
    key = add_client(home)
    trusted = f"ssl_verify_upstream_trusted_ca={authority.ca_file}"
    async with Mitmdump("-s", str(SCRIPT), "--set", trusted, home=home, confdir=confdir) as gateway:
        for client in running:
            await gateway.wait_for(f"Pool {client.name} reloaded: 2 ready")
        yield gateway, environment(gateway, key, confdir)


def environment(gateway: Mitmdump, key: str, confdir: Path) -> dict[str, str]:
    """What somebody exports for a program that is to use the gateway: the proxy with the key, and the CA."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    proxy = gateway.url.replace("//", f"//ci:{key}@")
    authorities = str(confdir / "mitmproxy-ca-cert.pem")
    names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
    return {**kept, "HTTPS_PROXY": proxy, "https_proxy": proxy, **dict.fromkeys(names, authorities)}


async def test_clients_stream_upload_and_outlive_an_account(
    rig: Rig, confdir: Path, authority: CertificateAuthority
) -> None:
    """Each has an event before the next is made; a MiB in pieces arrives whole; no request is lost.

    All at once, through one gateway. A gRPC call that meets the revoked account is tried again by the client.
    """
    missing: list[str] = []
    running = list(clients(missing))
    assert not (missing and os.environ.get("AUTHPOOL_REQUIRE_CLIENTS") == "1"), f"not installed: {', '.join(missing)}"
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(upstream_for(one, rig, authority)) for one in running]
        gateway, env = await stack.enter_async_context(gateway_for(rig, running, confdir, authority))
        lines = await asyncio.gather(*(one.run(env, rig.provider.revoke) for one in running))
        assert dict(zip([one.name for one in running], lines, strict=True)) == {
            one.name: one.expected for one in running
        }
        for one in running:
            await gateway.wait_for(f"Disabling account {one.name}/{one.account} due to invalid_grant")
    received = [request for upstream in upstreams if upstream for request in upstream.received]
    assert not any(request.header("proxy-authorization") for request in received)
    if missing:
        pytest.skip(f"the others did; not installed: {', '.join(missing)}")
