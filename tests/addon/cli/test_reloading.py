"""`authpool reload` tells what each gateway did; and a reload that is refused changes nothing."""

import asyncio
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.addonmanager import AddonManager

from authpool.cli.reloading import reload_gateways
from authpool.errors import ConfigurationError
from authpool.gateway.presence import Presence, Reloaded, neighbours
from authpool.gateway.service import Service
from authpool.proxy import wire
from authpool.store.folder.reload_marker import ask_for_reload, last_request
from support.gateway import Mitmdump
from support.home import make_home, write_configuration
from support.pool_rig import Rig, gateway_master

ROOT = Path(__file__).parents[3]
SCRIPT = str(ROOT / "addon" / "gateway.py")


async def cli(home: Path, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", "--home", str(home), "reload", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'addon'}:{ROOT / 'plugins'}"} | environment,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def gateway(rig: Rig, confdir: Path, **more: Any) -> Mitmdump:
    return Mitmdump("-s", SCRIPT, "--mode", f"reverse:{rig.upstream.url}", home=rig.path, confdir=confdir, **more)


async def told(home: Path, gateways: int) -> None:
    """Wait until so many gateways have said that they are there."""
    async with asyncio.timeout(30):
        while len(neighbours(home)) < gateways:
            await asyncio.sleep(0.01)


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
async def test_each_gateway_is_told_by_its_number(rig: Rig, confdir: Path) -> None:
    """Two that reload; then one that refuses, with the reason and exit status 1; then one alone; then nobody."""
    home = rig.home("alice")
    knows = gateway(rig, confdir, environment={"SECRET_OF_ONE": "s"})
    lacks = gateway(rig, confdir)
    async with knows:
        async with lacks:
            await told(home, 2)
            assert knows.process is not None
            assert lacks.process is not None
            status, out, err = await cli(home)
            assert (status, err) == (0, "")
            assert {f"Gateway {one.process.pid} reloaded" for one in (knows, lacks) if one.process} <= set(
                out.splitlines()
            )

            write_configuration(home, pools={"p": rig.pool(client_secret="env:SECRET_OF_ONE")})
            status, out, err = await cli(home, SECRET_OF_ONE="s")
            assert status == 1
            assert f"Gateway {knows.process.pid} reloaded" in out
            refused = f"authpool: gateway {lacks.process.pid} refused: {home}/authpool.toml: pools.p.client_secret: "
            assert refused in err
            status, out, err = await cli(home, "--json", SECRET_OF_ONE="s")
            assert (status, err) == (1, "")
            answer = json.loads(out)
            assert answer["ok"] is False
            assert "pools.p.client_secret" in answer["error"]
            did = {one["pid"]: one["did"] for one in answer["gateways"]}
            assert did == {knows.process.pid: "reloaded", lacks.process.pid: "refused"}
        status, out, _ = await cli(home, SECRET_OF_ONE="s")
        assert status == 0
        assert out.count("Gateway ") == 1
        await knows.kill()
    status, out, _ = await cli(home, SECRET_OF_ONE="s")
    assert (status, f"No gateway runs on {home}" in out) == (0, True)


@pytest.mark.mitmproxy
async def test_a_gateway_without_its_environment_refuses(rig: Rig, confdir: Path) -> None:
    """What the shell has, the gateway may not have: the reason is its own."""
    home = rig.home("alice")
    async with gateway(rig, confdir):
        await told(home, 1)
        write_configuration(home, pools={"p": rig.pool(client_secret="env:SECRET_OF_THE_SHELL")})
        status, _, err = await cli(home, SECRET_OF_THE_SHELL="s")
    assert status in {0, 1}  # a gateway may look secrets up when it needs them
    assert status == 0 or "SECRET_OF_THE_SHELL" in err


@pytest.mark.mitmproxy
async def test_a_gateway_that_hangs_is_told(rig: Rig, confdir: Path) -> None:
    """After a while, rather than never."""
    rig.home("alice")
    async with gateway(rig, confdir) as running:
        await told(rig.path, 1)
        assert running.process is not None
        running.send_signal(signal.SIGSTOP)
        (outcome,) = await asyncio.to_thread(
            lambda: reload_gateways(rig.path, partial(ask_for_reload, rig.path), answer_seconds=0.2)
        )
        assert (outcome.pid, outcome.did) == (running.process.pid, "silent")
        assert "has not answered" in str(outcome)
        running.send_signal(signal.SIGCONT)


def test_one_that_ends_meanwhile_is_no_failure(tmp_path: Path) -> None:
    """It will not serve by the old configuration."""
    presence = Presence(tmp_path)
    presence.tell(Reloaded(request=0))
    (outcome,) = reload_gateways(tmp_path, partial(ask_for_reload, tmp_path), sleep=lambda seconds: presence.end())
    assert (outcome.did, outcome.failed) == ("ended", False)


def test_two_operators_at_once_are_both_answered(tmp_path: Path) -> None:
    """A reload that knows of a later request has done the earlier one too."""
    presence = Presence(tmp_path)
    presence.tell(Reloaded(request=0))

    def meanwhile(seconds: float) -> None:
        inner = reload_gateways(tmp_path, partial(ask_for_reload, tmp_path), answer_seconds=0)
        assert [one.did for one in inner] == ["silent"]
        presence.tell(Reloaded(request=last_request(tmp_path)))

    assert [one.did for one in reload_gateways(tmp_path, partial(ask_for_reload, tmp_path), sleep=meanwhile)] == [
        "reloaded"
    ]
    presence.end()


# --- all or nothing --------------------------------------------------------------------------------------------------

PLUGIN = """
from authpool import hookimpl
from authpool.errors import ConfigurationError

seen = []

@hookimpl
def authpool_configure(options, home):
    seen.append(options.take_string("word"))

@hookimpl
def authpool_token_source(name):
    seen.append(f"asked with {seen[-1] if seen else 'nothing'}")
    return None

@hookimpl
def authpool_rotation(name):
    if name == "broken":
        raise ConfigurationError("plugin", "is broken.", "Mend it.")
"""


def words(service: Service) -> list[str]:
    return service.plugins._manager.get_plugin("words").seen  # type: ignore[no-any-return, union-attr]


def configure(home: Path, word: str, **pool: Any) -> None:
    table = {"type": "static", "hosts": ["x.example"], **pool}
    write_configuration(home, pools={"p": table})
    path = home / "authpool.toml"
    path.write_text(f'{path.read_text()}\n[plugins.words]\nword = "{word}"\n')


async def test_plugins_are_configured_before_they_are_asked(tmp_path: Path) -> None:
    """At the start and at a reload."""
    home = make_home(tmp_path, pools={})
    (home / "plugins" / "words.py").write_text(PLUGIN)
    configure(home, "one", type="mine")
    with pytest.raises(ConfigurationError):
        Service(home, {})
    configure(home, "one")
    service = Service(home, {})
    await service.start()
    try:
        assert words(service)[0] == "one"
        configure(home, "two", type="mine")
        with pytest.raises(ConfigurationError, match="type"):
            await service.reload()
        assert "asked with two" in words(service)
    finally:
        await service.stop()


@pytest.mark.parametrize(
    "wrong",
    ({"rotation": "broken"}, {"rotation": "of nobody"}, {"preset": "of nobody"}, {"hosts": []}),
    ids=lambda wrong: str(next(iter(wrong.items()))),
)
async def test_a_refused_reload_leaves_the_plugins_as_they_were(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Whatever is refused after they were configured: they get their former options back."""
    home = make_home(tmp_path, pools={})
    (home / "plugins" / "words.py").write_text(PLUGIN)
    configure(home, "one")
    heard: list[Reloaded] = []
    service = Service(home, {}, reloaded=heard.append)
    await service.start()
    before = service.snapshot
    try:
        configure(home, "two", **wrong)
        with pytest.raises(ConfigurationError):
            await service.reload()
        assert [word for word in words(service) if not word.startswith("asked")][-1] == "one"
        assert service.snapshot is before
        assert heard[-1].error
        configure(home, "three")
        await service.reload()
        assert [word for word in words(service) if not word.startswith("asked")][-1] == "three"
        assert not heard[-1].error
    finally:
        await service.stop()


@pytest.mark.mitmproxy
async def test_a_refused_reload_leaves_the_dispatch_as_it_was(rig: Rig) -> None:
    """It used to be switched before a later check refused."""
    home = rig.home("alice")
    async with gateway_master(home) as running:
        assert AddonManager.trigger_event is wire.fast_trigger_event
        write_configuration(
            home,
            pools={"p": rig.pool(rotation="of nobody")},
            gateway={"fast_dispatch": False},
        )
        await running.wait_until(lambda: [m for m in running.messages if "of nobody" in m and "stays in force" in m])
        assert AddonManager.trigger_event is wire.fast_trigger_event
        assert any(f"{home}/authpool.toml: pools.p.rotation" in message for message in running.messages)


async def test_a_change_between_reading_and_starting_is_noticed(tmp_path: Path) -> None:
    """The file is written anew after the gateway has read it, and before it follows it."""
    home = make_home(tmp_path, pools={"p": {"type": "static", "hosts": ["x.example"]}})
    service = Service(home, {})
    write_configuration(home, pools={"q": {"type": "static", "hosts": ["x.example"]}})
    await service.start()
    try:
        async with asyncio.timeout(30):
            while set(service.snapshot.pools) != {"q"}:
                await asyncio.sleep(0.01)
    finally:
        await service.stop()
