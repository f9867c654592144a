"""A start: which home, what is wrong with it in one line, and requests that come before the accounts are loaded."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from authpool.cli.scaffold import create_home
from authpool.proxy import wire
from authpool.proxy.addon import Gateway
from support.gateway import GatewayStartError, Mitmdump, dump_master
from support.pool_rig import Rig, client, gateway_master

pytestmark = pytest.mark.mitmproxy

ROOT = Path(__file__).parents[3]
SCRIPT = str(ROOT / "addon" / "gateway.py")
SOURCES = f"{ROOT / 'addon'}:{ROOT / 'plugins'}"


def gateway(rig: Rig, confdir: Path, *scripts: str, environment: Mapping[str, str] | None = None) -> Mitmdump:
    named = [word for script in scripts for word in ("-s", script)]
    return Mitmdump(
        *(*named, "--mode", f"reverse:{rig.upstream.url}"), home=rig.path, confdir=confdir, environment=environment
    )


# --- which home ------------------------------------------------------------------------------------------------------


async def test_the_loader_of_a_home_is_for_that_home(rig: Rig, confdir: Path, tmp_path: Path) -> None:
    """Whatever AUTHPOOL_HOME says, and wherever it is started; the log names the home, and what did not count."""
    home = rig.home("alice")
    create_home(home)
    other = tmp_path / "other"
    create_home(other)
    process = gateway(rig, confdir, str(home / "addon"), environment={"AUTHPOOL_HOME": str(other)})
    async with process, client(process.url) as api:
        await process.wait_for(f"the home is {home}")
        await process.wait_for(f"AUTHPOOL_HOME ({other}) does not count")
        assert (await api.get("/x")).status_code == 200
    assert rig.owners == ["alice"]


async def test_an_option_wins_over_the_loaders_home(rig: Rig, confdir: Path, tmp_path: Path) -> None:
    """`authpool_home` is said for this start; nothing is more explicit."""
    home = rig.home("alice")
    other = tmp_path / "other"
    create_home(other)
    process = Mitmdump("-s", str(other / "addon"), "--set", f"authpool_home={home}", confdir=confdir)
    async with process:
        await process.wait_for(f"the home is {home}")
    assert str(other) not in process.text.replace(f"Loading script {other}", "")


async def test_a_home_that_was_moved_is_its_loaders_home(rig: Rig, confdir: Path, tmp_path: Path) -> None:
    """The loader is where its home is: nothing of where it was made is left in it."""
    create_home(rig.home("alice"))
    shutil.move(rig.path, tmp_path / "moved")
    process = Mitmdump("-s", "addon", confdir=confdir, cwd=tmp_path / "moved", environment=_nothing(tmp_path))
    async with process:
        await process.wait_for(f"the home is {tmp_path / 'moved'}")


def _nothing(tmp_path: Path) -> dict[str, str]:
    return {"AUTHPOOL_HOME": "", "HOME": str(tmp_path)}


# --- what is wrong, in one line --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ("mitmdump", "mitmweb"))
async def test_a_mistake_is_one_line_with_the_full_path(rig: Rig, confdir: Path, tool: str) -> None:
    """File, key and remedy, once, without a traceback; nothing listens meanwhile."""
    home = rig.home("alice", paht=["/x"])
    process = Mitmdump("-s", SCRIPT, home=home, confdir=confdir, tool=tool)
    said = await process.run_to_its_end()
    lines = said.splitlines()
    (line,) = [line for line in lines if "authpool.toml" in line]
    assert f"authpool: {home}/authpool.toml: pools.p.paht: " in line
    assert "Did you mean `paths`?" in line
    assert "Traceback" not in said
    assert len([line for line in lines if not line.startswith(("[", "Error logged"))]) == 0


async def _cli(*arguments: str, home: Path, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT / 'addon'}:{ROOT / 'plugins'}", "AUTHPOOL_HOME": str(home)}
        | environment,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize("tool", ("mitmdump", "mitmweb", "mitmproxy"))
async def test_the_wrapper_checks_before_it_starts_the_tool(rig: Rig, confdir: Path, tool: str) -> None:
    """One line, exit status 1, and mitmproxy says nothing: it was not there."""
    home = rig.home("alice", paht=["/x"])
    status, out = await _cli(tool, "--set", f"confdir={confdir}", home=home)
    assert status == 1
    assert out.startswith(f"authpool: {home}/authpool.toml: pools.p.paht: ")
    assert len(out.splitlines()) == 1


async def test_the_wrapper_looks_secrets_up_as_the_gateway_does(rig: Rig, confdir: Path) -> None:
    """A verb needs none before it asks a token endpoint; the gateway needs them all."""
    home = rig.home("alice", client_secret="env:NOT_SET_ANYWHERE")
    status, out = await _cli("mitmdump", "--set", f"confdir={confdir}", home=home)
    assert status == 1
    assert out.startswith(f"authpool: {home}/authpool.toml: pools.p.client_secret: ")
    assert len(out.splitlines()) == 1


async def test_the_wrapper_checks_the_home_that_the_tool_will_have(rig: Rig, confdir: Path, tmp_path: Path) -> None:
    """`--set authpool_home=` counts; a tool that only tells something needs no home at all."""
    home = rig.home("alice", paht=["/x"])
    status, out = await _cli("mitmdump", "--set", f"authpool_home={home}", home=tmp_path / "none")
    assert (status, f"{home}/authpool.toml" in out) == (1, True)
    status, out = await _cli("mitmdump", "--version", home=tmp_path / "none")
    assert (status, "Mitmproxy: " in out) == (0, True)


@pytest.mark.parametrize("package", ("httpx", "pluggy", "tomli_w"))
async def test_a_checkout_without_its_dependencies_says_what_to_install(
    rig: Rig, confdir: Path, tmp_path: Path, package: str
) -> None:
    """One line that can be copied to a shell, and the end."""
    rig.home("alice")
    away = tmp_path / "away"
    away.mkdir()
    (away / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module', name={package!r})")
    paths = f"{away}:{ROOT / 'plugins'}"
    process = gateway(rig, confdir, SCRIPT, environment={"PYTHONPATH": paths})
    said = await process.run_to_its_end()
    assert f"authpool: there is no {package} in mitmproxy's Python; run: " in said
    assert f"-m pip install {ROOT}" in said
    assert "ModuleNotFoundError" not in said  # mitmproxy may add what became of a client that had connected


# --- before the accounts are loaded ----------------------------------------------------------------------------------

SLOW = """
import asyncio, pathlib

async def running():
    pathlib.Path({started!r}).touch()
    while not pathlib.Path({go!r}).exists():
        await asyncio.sleep(0.01)
"""


async def test_requests_wait_for_the_accounts_to_be_loaded(rig: Rig, confdir: Path, tmp_path: Path) -> None:
    """Another script's `running` comes first and takes its time, while mitmproxy listens already."""
    rig.home("alice")
    started, go = tmp_path / "started", tmp_path / "go"
    (tmp_path / "slow.py").write_text(SLOW.format(started=str(started), go=str(go)))
    async with gateway(rig, confdir, str(tmp_path / "slow.py"), SCRIPT) as process, client(process.url) as api:
        async with asyncio.timeout(30):
            while not started.exists():
                await asyncio.sleep(0.01)
        asking = [asyncio.create_task(api.get("/x")) for _ in range(3)]
        await asyncio.wait(asking, timeout=0.3)
        assert not any(one.done() for one in asking)
        go.touch()
        assert [one.status_code for one in await asyncio.gather(*asking)] == [200] * 3


async def test_a_load_that_takes_too_long_is_answered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an answer of ours, after a while, rather than never; and the log says it."""
    monkeypatch.setattr("authpool.proxy.addon.START_SECONDS", 0.05)
    rig.home("alice")

    class Waiting(Gateway):
        def running(self) -> "asyncio.Future[bool]":
            self.configure({"authpool_home"})
            return asyncio.ensure_future(asyncio.sleep(0, result=False))

    mode = f"reverse:{rig.upstream.url}"
    try:
        async with dump_master(Waiting(), home=rig.path, mode=mode) as running, client(running.url) as api:
            answer = await api.get("/x")
            assert json.loads(answer.text)["type"].endswith("gateway_error")
            assert any("not loaded after" in message for message in running.messages)
    finally:
        wire.uninstall()
    assert rig.upstream.received == []


DOWN = """
from authpool import hookimpl
from authpool.errors import StoreUnavailableError

class Down:
    async def open(self):
        raise StoreUnavailableError("the store is down")

    async def aclose(self):
        pass

@hookimpl
def authpool_store(name):
    return (lambda home, options: Down()) if name == "down" else None
"""


async def test_a_start_that_failed_ends_mitmproxy(rig: Rig) -> None:
    """Accounts that can't be read are no empty pool."""
    home = rig.home("alice", gateway={"store": "down"})
    (home / "plugins" / "down.py").write_text(DOWN)
    with pytest.raises(GatewayStartError, match="authpool can't start: the store is down"):
        async with gateway_master(home):
            pass
