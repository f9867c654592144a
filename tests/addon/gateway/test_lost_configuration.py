"""An authpool.toml that is emptied or cut off while a gateway runs is refused, and can be forced."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from authpool.config import CONFIG_NAME
from authpool.errors import ConfigurationError
from authpool.gateway.service import Service
from authpool.proxy.addon import Gateway
from authpool.proxy.commands import Commands
from support.gateway import Mitmdump
from support.home import account_path, make_home, write_account, write_configuration
from support.pool_rig import Rig, gateway_master

ROOT = Path(__file__).parents[3]
FAR = {"token": {"access_token": "t", "refresh_token": "r", "expires_at": 9_999_999_999}}


def pool(host: str) -> dict[str, Any]:
    return {"token_url": "https://op.example/t", "client_id": "me", "hosts": [host]}


TWO = {"a": pool("a.example"), "b": pool("b.example")}


def two_pools(folder: Path, *, gateway: dict[str, Any] | None = None) -> Path:
    return make_home(folder, pools=TWO, accounts={"a/alice": FAR}, gateway=gateway)


async def refusal(service: Service) -> str:
    before = service.snapshot
    with pytest.raises(ConfigurationError) as refused:
        await service.reload()
    assert service.snapshot is before
    return str(refused.value)


@pytest.mark.parametrize("content", ("", "\n", "# nothing\n", "[pools]\n", "[gateway]\nmax_accounts = 3\n"))
async def test_a_reload_that_drops_every_pool_is_refused(tmp_path: Path, content: str) -> None:
    """Also where none of them has an account: the file names the key and the remedy."""
    home = make_home(tmp_path, pools=TWO)
    service = Service(home, {})
    await service.start()
    (home / CONFIG_NAME).write_text(content)
    told = await refusal(service)
    assert f"{home}/authpool.toml: pools: every pool would be dropped (a, b)." in told
    assert "authpool reload --force" in told
    await service.reload(forced=True)
    assert not service.snapshot.pools
    await service.stop()


async def test_a_pool_that_still_has_accounts_is_not_dropped(tmp_path: Path) -> None:
    """One under a new name counts as dropped; one that has none left may go."""
    home = two_pools(tmp_path)
    service = Service(home, {})
    await service.start()
    write_configuration(home, pools={"renamed": TWO["a"], "b": TWO["b"]})
    told = await refusal(service)
    assert f"{home}/authpool.toml: pools.a: is gone, and the pool still has an account." in told
    assert "a pool under a new name counts as dropped" in told
    write_configuration(home, pools={"a": TWO["a"]})  # b has no account
    await service.reload()
    assert set(service.snapshot.pools) == {"a"}
    write_configuration(home, pools={"b": TWO["b"]})
    account_path(home, "a/alice").unlink()  # it counts what the store has, not what the gateway has noticed
    await service.reload()
    assert set(service.snapshot.pools) == {"b"}
    await service.stop()


async def test_what_a_gateway_has_not_noticed_yet_counts(tmp_path: Path) -> None:
    """An account that was added a moment ago, a disabled one, and one that can't be read."""
    home = make_home(tmp_path, pools=TWO)
    service = Service(home, {})
    await service.start()
    write_account(home, "a/new", {**FAR, "disabled": True})
    account_path(home, "a/broken").write_text("= no account")
    account_path(home, "a/broken").chmod(0o600)
    write_configuration(home, pools={"b": TWO["b"]})
    assert "still has 2 accounts" in await refusal(service)
    await service.stop()


async def test_the_demand_for_keys_does_not_go_with_the_end_of_the_file(tmp_path: Path) -> None:
    """A file that was cut off before its `[gateway]`; one that says something else there is somebody's will."""
    home = two_pools(tmp_path, gateway={"client_keys": "required"})
    service = Service(home, {})
    await service.start()
    write_configuration(home, pools=TWO)
    assert "gateway: is gone, and with it the demand for gateway keys." in await refusal(service)
    write_configuration(home, pools=TWO, gateway={"client_keys": "off"})
    await service.reload()
    assert service.snapshot.config.gateway.client_keys == "off"
    await service.stop()


@pytest.mark.mitmproxy
async def test_the_prompt_can_force_and_sighup_can_not(rig: Rig) -> None:
    """`authpool.reload force`; what a signal or the file itself brings is unforced."""
    home = rig.home("alice")
    addon = Gateway()
    async with gateway_master(home, Commands(addon), gateway=addon) as gateway:
        (home / CONFIG_NAME).write_text("")
        await gateway.wait_until(
            lambda: any("every pool would be dropped (p)" in message for message in gateway.messages)
        )
        addon.reload_soon()
        await gateway.wait_until(
            lambda: sum("every pool would be dropped (p)" in message for message in gateway.messages) > 1
        )
        assert addon.service is not None
        assert set(addon.service.snapshot.pools) == {"p"}
        gateway.master.commands.call("authpool.reload", "force")
        await gateway.wait_until(lambda: not addon.service or not addon.service.snapshot.pools)


@pytest.mark.mitmproxy
async def test_no_request_passes_as_if_there_were_no_pool(rig: Rig, confdir: Path) -> None:
    """The file is emptied in place: the pool's credential stays, the client's own never leaves; then it is forced."""
    home = rig.home("alice")
    mode = ("--mode", f"reverse:{rig.upstream.url}")
    running = Mitmdump("-s", str(ROOT / "addon" / "gateway.py"), *mode, home=home, confdir=confdir)
    async with running, httpx.AsyncClient(base_url=running.url, trust_env=False, verify=False) as api:
        assert (await api.get("/1")).status_code == 200
        (home / CONFIG_NAME).write_bytes(b"")
        await running.wait_for("every pool would be dropped (p)")
        assert (await api.get("/2", headers={"Authorization": "Bearer of-the-client"})).status_code == 200
        status, told = await _reload(home)
        assert (status, "authpool reload --force" in told) == (1, True)
        status, told = await _reload(home, "--force")
        assert status == 0, told
        await running.wait_for("configures no pool: every request passes untouched")
    assert rig.owners == ["alice", "alice"]


async def _reload(home: Path, *more: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", "--home", str(home), "reload", *more),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'addon'}:{ROOT / 'plugins'}"},
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()
