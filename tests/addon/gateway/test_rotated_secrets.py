"""Static secrets and clients of their own: what a refusal does, and a new one added under a running gateway."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.answers import JSON
from support.command_line import Ended, authpool_on
from support.gateway import Mitmdump
from support.home import account_path, make_home, read_account
from support.pool_rig import client, gateway_master
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

SCRIPT = Path(__file__).parents[3] / "addon" / "gateway.py"


async def until(api: httpx.AsyncClient, status: int) -> httpx.Response:
    """Ask until the gateway answers so: it follows the command line by itself."""
    async with asyncio.timeout(30):
        while (answer := await api.get("/x")).status_code != status:
            await asyncio.sleep(0.05)
    return answer


def secret_file(folder: Path, text: str) -> str:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(0o600)
    return f"@{path}"


async def test_a_static_secret_is_rotated_by_adding_it_again(tmp_path: Path, upstream: Upstream) -> None:
    """The upstream's 401 cools the account, which is never disabled; the new secret serves without a restart."""
    home = make_home(
        tmp_path,
        pools={"keys": {"type": "static", "hosts": [upstream.authority]}},
        accounts={"keys/search": {"token": {"access_token": "old-secret"}}},
    )
    upstream.accept({"new-secret"})
    async with gateway_master(home, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
        await api.get("/x")
        again = await api.get("/x")
        assert (again.status_code, again.headers["authpool-error"]) == (503, "pool_exhausted")
        assert not read_account(home, "keys/search").get("disabled")
        source = secret_file(tmp_path, "new-secret\n")
        ended = await authpool_on(home, "add", "keys", source, "search")
        assert ended == Ended(0, "Re-added keys/search with a new credential\n", "")
        await until(api, 200)
        log = "\n".join(gateway.messages)
    assert upstream.received[-1].bearer == "new-secret"
    assert "new-secret" not in log
    assert "old-secret" not in log


async def test_a_client_secret_is_rotated_by_adding_it_again(tmp_path: Path, upstream: Upstream) -> None:
    """The token endpoint's word on the old one stands against nobody after the new one was proved."""
    answers = [JSON(401, {"error": "invalid_client"})] + [
        JSON(200, {"access_token": f"token-{number}", "expires_in": 3600}) for number in range(5)
    ]
    async with ScriptedTokenEndpoint(answers) as at:
        pool = {
            "type": "client_credentials", "token_url": at.url, "client_id": "svc", "client_secret": "old-secret",
            "hosts": [upstream.authority],
        }  # fmt: skip
        own = {"client": {"client_id": "svc", "client_secret": "own-old"}, "token": {}}
        home = make_home(tmp_path, pools={"p": pool}, accounts={"p/svc": own})
        upstream.accept({f"token-{number}" for number in range(5)})
        async with gateway_master(home, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            assert (await api.get("/x")).status_code in {502, 503}
            assert not read_account(home, "p/svc").get("disabled")
            source = secret_file(tmp_path, json.dumps({"client_id": "svc", "client_secret": "own-new"}))
            ended = await authpool_on(home, "add", "p", source)
            assert ended == Ended(0, "Re-added p/svc with a new credential\n", "")
            await until(api, 200)
            log = "\n".join(gateway.messages)
    assert read_account(home, "p/svc")["client"]["client_secret"] == "own-new"
    assert "own-" not in log


def own_client(secret: str) -> str:
    return json.dumps({"client_id": "svc", "client_secret": secret})


@pytest.mark.parametrize(
    ("kind", "old", "new", "name"),
    (
        ("static", "secret-old", "secret-new", "mine"),
        (
            "client_credentials",
            own_client("old"),
            own_client("new"),
            "",
        ),
        ("client_credentials", "old", "new", "mine"),
    ),
)
async def test_no_request_fails_while_a_secret_is_rotated(
    tmp_path: Path, upstream: Upstream, kind: str, old: str, new: str, name: str
) -> None:
    """Under load, while the upstream still takes the old one; soon none is sent with that any more."""

    def issue(number: int, form: dict[str, str]) -> JSON:
        return JSON(200, {"access_token": f"{number}-{form['client_secret']}", "expires_in": 3600})

    def names(secret: str) -> list[bool]:
        return [(one.bearer or "").endswith(secret) for one in list(upstream.received)]

    async with ScriptedTokenEndpoint(issue) as at:
        pool: dict[str, Any] = {"type": kind, "hosts": [upstream.authority]}
        if kind != "static":
            pool |= {"token_url": at.url, "client_id": "svc", "client_secret": "x", "client_auth": "client_secret_post"}
        home = make_home(tmp_path, pools={"p": pool}, accounts={})
        words = [name] if name else []
        assert (await authpool_on(home, "add", "p", secret_file(tmp_path, old), *words)).status == 0
        async with Mitmdump("-s", str(SCRIPT), "--mode", f"reverse:{upstream.url}", home=home) as gateway:
            async with client(gateway.url) as api, asyncio.TaskGroup() as group:
                done = asyncio.Event()
                asking = [group.create_task(_ask_until(done, api)) for _ in range(4)]
                await upstream.wait_for_requests(20)
                ended = await authpool_on(home, "add", "p", secret_file(tmp_path, new), *words)
                async with asyncio.timeout(30):
                    while not any(names("new")):
                        await asyncio.sleep(0.01)
                first = names("new").index(True)
                await upstream.wait_for_requests(len(upstream.received) + 20)
                done.set()
            assert {status for one in asking for status in one.result()} == {200}
            said = gateway.text
    assert ended == Ended(0, f"Re-added p/{name or 'svc'} with a new credential\n", "")
    assert names("old")[0]
    # Requests that were on their way when the gateway took it up may still carry the old one: one for each client.
    assert names("old")[first:].count(True) <= 4
    assert not any(secret in said for secret in ("secret-old", "secret-new", "-old", "-new"))


async def _ask_until(done: asyncio.Event, api: httpx.AsyncClient) -> set[int]:
    statuses: set[int] = set()
    while not done.is_set():
        statuses.add((await api.get("/x")).status_code)
    return statuses


async def test_a_client_that_signs_is_added_with_nothing_of_its_own(tmp_path: Path, upstream: Upstream) -> None:
    """`add POOL none`: the key is the pool's; it serves under a running gateway."""
    answers = [JSON(200, {"access_token": f"token-{number}", "expires_in": 3600}) for number in range(3)]
    async with ScriptedTokenEndpoint(answers) as at:
        pool: dict[str, Any] = {
            "type": "client_credentials", "token_url": at.url, "client_id": "svc", "client_key": "file:svc.key",
            "hosts": [upstream.authority],
        }  # fmt: skip
        home = make_home(tmp_path, pools={"p": pool}, accounts={})
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (home / "svc.key").write_bytes(pem)
        (home / "svc.key").chmod(0o600)
        upstream.accept({f"token-{number}" for number in range(3)})
        async with gateway_master(home, mode=f"reverse:{upstream.url}") as gateway, client(gateway.url) as api:
            assert await authpool_on(home, "add", "p", "none") == Ended(0, "Added p/svc\n", "")
            await until(api, 200)
        form = at.received[0].request.form
    assert form["grant_type"] == "client_credentials"
    assert form["client_assertion"].count(".") == 2
    assert "secret" not in account_path(home, "p/svc").read_text()


async def test_a_key_that_is_missing_is_named_on_the_command_line(tmp_path: Path, upstream: Upstream) -> None:
    """Before the token endpoint is asked."""
    async with ScriptedTokenEndpoint(()) as at:
        pool = {
            "type": "client_credentials", "token_url": at.url, "client_id": "svc", "client_key": "file:svc.key",
            "hosts": [upstream.authority],
        }  # fmt: skip
        home = make_home(tmp_path, pools={"p": pool}, accounts={})
        ended = await authpool_on(home, "add", "p", "none")
        assert ended.status == 1
        assert "pools.p.client_key" in ended.err
        assert "svc.key can't be read: No such file" in ended.err
        assert (await authpool_on(home, "accounts")).status == 0
        assert at.received == []
