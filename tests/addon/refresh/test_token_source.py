"""Credentials that a plugin's token source fetches: the whole life of an account whose secret is not ours."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import ConfigurationError, RefusedError
from authpool.gateway.service import Service
from authpool.pool.pool import State
from authpool.refresh import source_tokens
from authpool.verbs.operations import Operations
from authpool.verbs.sources import read_source
from support.home import Document, make_home, read_account, write_account, write_configuration
from support.pool_rig import client, gateway_master
from support.upstream import Upstream

PLUGIN = """
import asyncio
from authpool import hookimpl
from authpool.errors import CredentialDeadError, CredentialMisconfiguredError, CredentialUnavailableError
from authpool.refresh.token_source import Fetched, TokenSource, source_options

calls = []
script = {}

class Vault(TokenSource):
    def __init__(self, path):
        self.path = path

    async def fetch(self, account):
        calls.append((self.path, account.name))
        await asyncio.sleep(0.01)
        answer = script.get(account.name, f"token-{len(calls)}")
        if isinstance(answer, BaseException):
            raise answer
        if answer == "hang":
            await asyncio.Event().wait()
        return answer if isinstance(answer, Fetched) else Fetched(access_token=answer, expires_at=script.get("until"))

def _make(pool):
    return Vault(source_options(pool, "path").take_string("path"))

@hookimpl
def authpool_token_source(name):
    return _make if name == "vault" else None
"""

POOL: dict[str, Any] = {"type": {"name": "vault", "path": "kv/api"}, "hosts": ["api.example"]}
NOW = int(time.time())


def vault() -> Any:
    """The plugin's own module, of the service made last."""
    return sys.modules["authpool_plugin_file_vault"]


def home_of(folder: Path, pool: Mapping[str, Any] = POOL, *names: str, **token: Any) -> Path:
    home = make_home(folder, pools={"p": pool}, accounts={f"p/{name}": {"token": token} for name in names})
    (home / "plugins" / "vault.py").write_text(PLUGIN)
    return home


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Service]:
    service = Service(home, {})
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def stored(home: Path, name: str = "alice") -> Document:
    return read_account(home, f"p/{name}")


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_many_callers_share_one_fetch_and_its_token_is_on_disk(tmp_path: Path) -> None:
    """Single flight, options read by the plugin, and no written intent: nothing is spent."""
    home = home_of(tmp_path, POOL, "alice", access_token="old", expires_at=1)
    service = Service(home, {})
    account = await service.store.read(AccountKey.of("p", "alice"))
    vault().script["until"] = NOW + 3600
    outcomes = await asyncio.gather(*(service.refresher.refresh(account) for _ in range(50)))
    assert len({id(outcome) for outcome in outcomes}) == 1
    assert vault().calls == [("kv/api", "alice")]
    assert stored(home)["token"] == {"access_token": "token-1", "token_type": "Bearer", "expires_at": NOW + 3600}
    assert "pending_refresh" not in stored(home)
    await service.stop()


async def test_two_processes_do_not_fetch_twice(tmp_path: Path) -> None:
    """Whoever comes second reads what the first one wrote, under the lock."""
    home = home_of(tmp_path, POOL, "alice", access_token="old", expires_at=1)
    one = Service(home, {})
    vault().script["until"] = NOW + 3600
    module = vault()
    two = Service(home, {})
    account = await one.store.read(AccountKey.of("p", "alice"))
    await asyncio.gather(one.refresher.refresh(account), two.refresher.refresh(account))
    assert len(module.calls) + len(vault().calls) == 1
    await one.stop()
    await two.stop()


async def test_an_account_is_added_by_its_name_alone(tmp_path: Path) -> None:
    """SOURCE is `none`; the token is fetched before anything is written, and the gateway serves with it."""
    home = home_of(tmp_path)
    async with running(home) as service:
        operations = Operations(service)
        none = read_source("none", environ={})
        assert await operations.add("p", none, "alice") == "Added p/alice"
        assert stored(home)["token"]["access_token"] == "token-1"
        with pytest.raises(RefusedError, match=r"authpool add p none NAME"):
            await operations.add("p", none)
        with pytest.raises(RefusedError, match=r"have no secret of their own"):
            await operations.add("p", read_source("env:TOKEN", environ={"TOKEN": "x"}), "alice")
        vault().script["bob"] = vault().CredentialUnavailableError("the vault is sealed")
        with pytest.raises(RefusedError, match="no token for p/bob: the vault is sealed"):
            await operations.add("p", none, "bob")
        assert not list((home / "accounts" / "p").glob("bob*"))
        assert (await operations.refresh("p/alice")).startswith("Refreshed p/alice")


@pytest.mark.parametrize("kind", ("static", "refresh_token", "client_credentials"))
async def test_none_is_no_source_for_other_pools(tmp_path: Path, kind: str) -> None:
    """An account that must have a secret is not added without one."""
    oauth = {} if kind == "static" else {"token_url": "https://x.example/token", "client_id": "c"}
    home = make_home(tmp_path, pools={"p": {"type": kind, "hosts": ["api.example"], **oauth}})
    service = Service(home, {})
    with pytest.raises(RefusedError, match="holds no"):
        await Operations(service).add("p", read_source("none", environ={}), "alice")
    await service.stop()


async def test_a_dead_credential_disables_and_enable_takes_it_back(tmp_path: Path) -> None:
    """With the source's reason, on disk; `enable`, and adding it again, ask the source first."""
    home = home_of(tmp_path, POOL, "alice", access_token="old", expires_at=1)
    async with running(home) as service:
        operations = Operations(service)
        vault().script["alice"] = vault().CredentialDeadError("the role of old was deleted")
        await until(lambda: stored(home).get("disabled"))
        assert stored(home)["disabled_reason"] == "the role of [redacted] was deleted"
        with pytest.raises(RefusedError, match="stays disabled"):
            await operations.enable("p/alice")
        vault().script["alice"] = "fresh"
        await operations.enable("p/alice")
        assert stored(home)["disabled"] is False
        assert stored(home)["token"]["access_token"] == "fresh"
        vault().script["alice"] = vault().CredentialDeadError("gone again")
        with pytest.raises(RefusedError, match="it is disabled now"):
            await operations.refresh("p/alice")
        vault().script["alice"] = "fresh"
        assert "is enabled again" in await operations.add("p", read_source("none", environ={}), "alice")


async def test_a_forced_refresh_right_after_one_that_landed_asks_and_ends(tmp_path: Path) -> None:
    """In the very turn of the event loop in which a flight lands, and is not forgotten yet."""
    home = home_of(tmp_path, POOL, "alice", access_token="old", expires_at=1)
    service = Service(home, {})
    account = await service.store.read(AccountKey.of("p", "alice"))
    first = asyncio.create_task(service.refresher.refresh(account))
    await until(lambda: account.key in service.refresher._flights)
    flight = service.refresher._flights[account.key]
    while not flight.done():
        await asyncio.sleep(0)
    assert service.refresher.refreshing(account.key)
    outcome = await service.refresher.refresh(account, force=True)
    assert type(outcome).__name__ == "Ready"
    assert len(vault().calls) == 2
    await first
    await service.stop()


@pytest.mark.parametrize(
    ("answer", "detail"),
    (
        ("vault().CredentialUnavailableError('sealed', 7)", "sealed"),
        ("ValueError('token-of-alice leaked')", "the token source failed (ValueError)"),
        ("vault().Fetched(access_token='two words')", "a character that no token has"),
        ("vault().Fetched(access_token='x', expires_at=5)", "a token that is over already"),
    ),
)
async def test_whatever_else_a_source_does_disables_nobody(tmp_path: Path, answer: str, detail: str) -> None:
    """It is tried again; what it said when it raised is not repeated."""
    home = home_of(tmp_path, POOL, "alice", access_token="old", expires_at=1)
    service = Service(home, {})
    vault().script["alice"] = eval(answer)
    outcome = await service.refresher.refresh(await service.store.read(AccountKey.of("p", "alice")))
    assert type(outcome).__name__ == "Unavailable"
    assert detail in outcome.detail  # type: ignore[union-attr]
    assert "leaked" not in repr(outcome)
    assert not stored(home).get("disabled")
    await service.stop()


async def test_a_source_that_hangs_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is not held for ever."""
    monkeypatch.setattr(source_tokens, "FETCH_SECONDS", 0.05)
    home = home_of(tmp_path, POOL, "alice", access_token="old", expires_at=1)
    service = Service(home, {})
    vault().script["alice"] = "hang"
    outcome = await service.refresher.refresh(await service.store.read(AccountKey.of("p", "alice")))
    assert "took longer than" in outcome.detail  # type: ignore[union-attr]
    await service.stop()


async def test_a_faulty_pool_is_said_once_and_held_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is disabled, the source is left alone for a minute, and a success ends it."""
    names = [f"user{number}" for number in range(6)]
    home = home_of(tmp_path, POOL, *names, access_token="old", expires_at=1)
    service = Service(home, {})
    for name in names:
        vault().script[name] = vault().CredentialMisconfiguredError("permission denied on kv/api")
    accounts = [await service.store.read(AccountKey.of("p", name)) for name in names]
    for account in accounts:
        assert type(await service.refresher.refresh(account)).__name__ == "Misconfigured"
    assert len(vault().calls) == 1
    assert len([message for message in caplog.messages if "permission denied on kv/api" in message]) == 1
    assert service.refresher.fault("p") == "permission denied on kv/api"
    vault().script.clear()
    assert type(await service.refresher.refresh(accounts[0], force=True)).__name__ == "Ready"
    assert service.refresher.fault("p") is None
    await service.stop()


async def test_many_dead_at_once_are_the_pools_fault(tmp_path: Path) -> None:
    """A vault that was wiped must not disable everybody."""
    names = [f"user{number}" for number in range(6)]
    home = home_of(tmp_path, POOL, *names, access_token="old", expires_at=1)
    service = Service(home, {})
    for name in names:
        vault().script[name] = vault().CredentialDeadError("no such role")
        await service.refresher.refresh(await service.store.read(AccountKey.of("p", name)), force=True)
    assert sum(stored(home, name).get("disabled", False) for name in names) == 3
    await service.stop()


async def test_the_keeper_fetches_ahead_of_expiry_only_where_it_is_known(tmp_path: Path) -> None:
    """A token that ends soon is replaced in the background; one of unknown end is left alone."""
    home = home_of(tmp_path, POOL, "soon", access_token="old", expires_at=int(time.time()) + 4)
    write_account(home, "p/unknown", {"token": {"access_token": "lasting"}})
    async with running(home):
        vault().script["until"] = NOW + 3600
        await until(lambda: stored(home, "soon")["token"]["access_token"] != "old")
    assert {name for _, name in vault().calls} == {"soon"}


@pytest.mark.mitmproxy
async def test_a_request_gets_the_token_and_a_401_fetches_another(tmp_path: Path, upstream: Upstream) -> None:
    """The whole way through a gateway; the client sees one answer."""
    home = home_of(tmp_path, {**POOL, "hosts": [upstream.authority]}, "alice", access_token="stale")
    upstream.accept({"good"})
    async with (
        gateway_master(home, mode=f"reverse:{upstream.url}") as gateway,
        client(gateway.url) as api,
    ):
        vault().script["alice"] = "good"
        assert (await api.get("/x")).status_code == 200
        assert [request.bearer for request in upstream.received] == ["stale", "good"]
    assert stored(home)["token"]["access_token"] == "good"


@pytest.mark.mitmproxy
async def test_a_broken_plugin_does_not_keep_the_gateway_from_starting(tmp_path: Path, upstream: Upstream) -> None:
    """It is named in the log and the requests are answered, by the pools that don't need it."""
    pools = {"p": {"type": "static", "hosts": [upstream.authority]}}
    home = make_home(tmp_path, pools=pools, accounts={"p/alice": {"token": {"access_token": "secret"}}})
    (home / "plugins" / "wrong.py").write_text("import nowhere_to_be_found")
    (home / "plugins" / "misspelt.py").write_text(
        "from authpool import hookimpl\n@hookimpl\ndef authpool_account_evnt(event): ..."
    )
    async with (
        gateway_master(home, mode=f"reverse:{upstream.url}") as gateway,
        client(gateway.url) as api,
    ):
        assert (await api.get("/x")).status_code == 200
        told = [message for message in gateway.messages if "is left out" in message]
    assert upstream.received[0].bearer == "secret"
    assert any("Plugin wrong" in message and "ModuleNotFoundError" in message for message in told)
    assert any("Plugin misspelt" in message and "Did you mean `authpool_account_event`" in message for message in told)


async def test_a_type_that_nobody_provides_names_what_was_left_out(tmp_path: Path) -> None:
    """A pool that needs a plugin that can't be loaded stops the start."""
    home = make_home(tmp_path, pools={"p": {**POOL, "type": "vault"}})
    with pytest.raises(ConfigurationError, match=r"pools\.p\.type: is none of .*, and no plugin provides it"):
        Service(home, {})


@pytest.mark.parametrize(
    ("table", "words"),
    (
        ({"type": {"name": "vault", "pth": "x"}}, r"pools\.p\.type\.pth: there is no such key. Did you mean `path`"),
        ({"type": {"path": "x"}}, r"pools\.p\.type\.name: is missing"),
        ({"type": {"name": "static", "path": "x"}}, r"pools\.p\.type\.path: .* static has no options"),
        ({"type": "vault", "client_id": "x"}, r"pools\.p\.client_id: .* type vault asks no token endpoint"),
    ),
)
async def test_mistakes_in_the_type_are_told(tmp_path: Path, table: Mapping[str, Any], words: str) -> None:
    """With file, key and remedy, the plugin's own options too."""
    home = home_of(tmp_path, {"hosts": ["api.example"], **table})
    with pytest.raises(ConfigurationError, match=words):
        Service(home, {})


async def test_a_reload_that_changes_the_options_makes_a_new_source(tmp_path: Path) -> None:
    """And a mistake in them leaves the old one in force."""
    home = home_of(tmp_path, POOL, "alice", access_token="old")
    async with running(home) as service:
        write_configuration(home, pools={"p": {**POOL, "type": {"name": "vault", "path": "kv/other"}}})
        await service.reload()
        write_configuration(home, pools={"p": {**POOL, "type": {"name": "vault", "pth": "kv/wrong"}}})
        with pytest.raises(ConfigurationError):
            await service.reload()
        await Operations(service).refresh("p/alice")
        assert vault().calls == [("kv/other", "alice")]
        assert service.snapshot.pools["p"].counts()[State.READY] == 1


STORE = """
from authpool import hookimpl
from authpool.store.folder.store import FolderStore

@hookimpl
def authpool_store(name):
    if name == "elsewhere":
        return lambda home, options: FolderStore(home / options.only("folder").take_string("folder"))
"""


async def test_a_store_of_a_plugin_is_used_by_every_verb(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The configuration names it; another one only after a start."""
    pools = {"p": {"type": "static", "hosts": ["api.example"]}}
    store = {"store": {"name": "elsewhere", "folder": "others"}}
    home = make_home(tmp_path, pools=pools, gateway=store)
    (home / "plugins" / "stores.py").write_text(STORE)
    async with running(home) as service:
        await Operations(service).add("p", read_source("env:KEY", environ={"KEY": "k"}), "alice")
        assert (home / "others" / "p" / "alice.toml").exists()
        assert not (home / "accounts" / "p").exists()
        write_configuration(home, pools=pools)
        with pytest.raises(ConfigurationError, match=r"gateway\.store: can't change while the gateway runs"):
            await service.reload()
    caplog.set_level(logging.ERROR)
    write_configuration(home, pools=pools, gateway={"store": "elswhere"})
    with pytest.raises(ConfigurationError, match=r"gateway\.store: no plugin provides the store 'elswhere'"):
        Service(home, {})
