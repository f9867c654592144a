"""`authpool seal`, `unseal` and `rekey` as a shell runs them: beside gateways, killed, and watched by people."""

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

import authpool
from authpool.gateway.presence import Presence
from authpool.gateway.service import Service
from authpool.verbs.operations import Operations
from support.command_line import authpool_on
from support.home import make_home, token_table
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint

KEY, OTHER = bytes(range(32)).hex(), bytes(range(9, 41)).hex()
SECONDS = 60.0


def home_with(
    folder: Path, provider: RotatingProvider, accounts: int, token_url: str = "http://127.0.0.1:9/token"
) -> Path:
    """A home in plain, whose key is in the environment."""
    names = [f"google/user{number:03}" for number in range(accounts)]
    return make_home(
        folder,
        pools={"google": {"token_url": token_url, "client_id": "c", "hosts": ["api.test"]}},
        accounts={name: {"token": token_table(provider.issue(name.partition("/")[2]))} for name in names},
        gateway={"seal_key": "env:KEY"},
    )


def sealed_files(home: Path) -> int:
    return sum("sealed = " in path.read_text() for path in (home / "accounts" / "google").glob("*.toml"))


@asynccontextmanager
async def gateway(home: Path, **environ: str) -> AsyncIterator[Service]:
    """A gateway that says in `run/` what its reloads did."""
    presence = Presence(home)
    service = Service(home, environ, reloaded=presence.tell)
    await service.start()
    try:
        yield service
    finally:
        presence.end()
        await service.stop()


@pytest.mark.timeout(300)  # it starts four processes, and waits for what they write
async def test_killed_at_any_moment_it_goes_on_the_next_time(tmp_path: Path) -> None:
    """With SIGKILL, again and again, while a gateway refreshes: no token is lost, and in the end all is sealed."""
    provider = RotatingProvider()
    async with ScriptedTokenEndpoint(provider) as endpoint:
        home = home_with(tmp_path, provider, 120, endpoint.url)
        async with gateway(home, KEY=KEY) as service:
            operations = Operations(service)
            for reached in (1, 30, 80):
                process = await _started(home, "seal")
                refreshing = asyncio.create_task(_refresh(operations, range(reached, reached + 30)))
                async with asyncio.timeout(SECONDS):
                    while process.returncode is None and await asyncio.to_thread(sealed_files, home) < reached:
                        await asyncio.sleep(0)
                with suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()
                await refreshing
                assert {row.state for row in await operations.accounts()} == {"ready"}
            ended = await authpool_on(home, "seal", "--json", env={"KEY": KEY})
            assert (ended.status, ended.json["ok"]) == (0, True)  # type: ignore[index]
            assert sealed_files(home) == 120
            assert not list(home.rglob("*.tmp"))
            await _refresh(operations, range(120))
        assert all(provider.is_alive(f"user{number:03}") for number in range(120))


async def _refresh(operations: Operations, numbers: range) -> None:
    for number in numbers:
        await operations.refresh(f"google/user{number:03}")


async def _started(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", "--home", str(home), *arguments),
        env={**os.environ, "KEY": KEY, "PYTHONPATH": str(Path(authpool.__file__).parents[1])},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def test_a_gateway_without_the_key_is_not_left_behind(tmp_path: Path) -> None:
    """It was started before the key was there: nothing is sealed until it was started anew."""
    home = home_with(tmp_path, RotatingProvider(), 2)
    text = (home / "authpool.toml").read_text()
    (home / "authpool.toml").write_text(text.replace('seal_key = "env:KEY"', ""))
    async with gateway(home) as service:
        (home / "authpool.toml").write_text(text)
        ended = await authpool_on(home, "seal", env={"KEY": KEY})
        assert ended.status == 1
        assert "nothing is changed, for a gateway could not take the key in" in ended.err
        assert "KEY is not set" in ended.err
        assert sealed_files(home) == 0
        assert {row.state for row in await Operations(service).accounts()} == {"ready"}
    async with gateway(home, KEY=KEY):
        assert (await authpool_on(home, "seal", env={"KEY": KEY})).status == 0
    assert sealed_files(home) == 2


async def test_rekey_does_not_shut_a_gateway_out(tmp_path: Path) -> None:
    """One that still has the former key keeps it from being taken away."""
    home = home_with(tmp_path, RotatingProvider(), 2)
    env = {"KEY": KEY, "OTHER": OTHER}
    async with gateway(home, KEY=KEY) as service:
        assert (await authpool_on(home, "seal", env=env)).status == 0
        ended = await authpool_on(home, "rekey", "--to", "env:OTHER", env=env)
        assert (ended.status, "beside the former one" in ended.out) == (0, True), ended
        text = (home / "authpool.toml").read_text()
        (home / "authpool.toml").write_text(text.replace("env:KEY", "env:OTHER"))
        ended = await authpool_on(home, "rekey", env=env)
        assert (ended.status, "OTHER is not set" in ended.err) == (1, True), ended
        assert {row.state for row in await Operations(service).accounts()} == {"ready"}
        assert "paused" in (await Operations(service).pause("google/user000")).lower()
    ended = await authpool_on(home, "rekey", env=env)
    assert (ended.status, "alone opens the accounts" in ended.out) == (0, True), ended
    ended = await authpool_on(home, "accounts", "--json", env={"OTHER": OTHER})
    assert [row["state"] for row in ended.json] == ["paused", "ready"]  # type: ignore[attr-defined]


async def test_a_gateway_whose_variable_has_another_value_is_not_left_behind(tmp_path: Path) -> None:
    """The same name, and another key in its environment: nothing is changed until it was started anew."""
    home = home_with(tmp_path, RotatingProvider(), 2)
    async with gateway(home, KEY=OTHER) as service:
        ended = await authpool_on(home, "seal", env={"KEY": KEY})
        assert (ended.status, "has another key than this shell" in ended.err) == (1, True), ended
        assert not (home / "sealing.toml").exists()
        await Operations(service).pause("google/user000")  # which makes the first data key
        assert (await authpool_on(home, "seal", env={"KEY": OTHER})).status == 0
        assert (await authpool_on(home, "rekey", "--to", "env:NEW", env={"KEY": OTHER, "NEW": KEY})).status == 0
        for more in ((), ("--data-key",)):
            ended = await authpool_on(home, "rekey", *more, env={"KEY": KEY})
            assert (ended.status, "start it anew" in ended.err) == (1, True), ended
        await Operations(service).resume("google/user000")
        assert [str(row.state) for row in await Operations(service).accounts()] == ["ready", "ready"]
    async with gateway(home, KEY=KEY):
        assert (await authpool_on(home, "rekey", env={"KEY": KEY})).status == 0
        assert (await authpool_on(home, "rekey", "--data-key", env={"KEY": KEY})).status == 0
    ended = await authpool_on(home, "accounts", "--json", env={"KEY": KEY})
    assert [row["state"] for row in ended.json] == ["ready", "ready"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("--to", "env:NOWHERE"), "--to the environment variable NOWHERE is not set"),
        (("--to", "env:SHORT"), "--to names no key: that is 32 random bytes"),
        (("--to", "hunter2"), "--to does not say where the key is"),
    ),
)
async def test_another_key_is_checked_first(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    home = home_with(tmp_path, RotatingProvider(), 1)
    ended = await authpool_on(home, "rekey", *arguments, env={"KEY": KEY, "SHORT": "hunter2"})
    assert (ended.status, said in ended.err, "hunter2" in ended.err) == (1, True, False), ended


async def test_people_see_a_bar_and_programs_do_not(tmp_path: Path) -> None:
    """Only where standard error is a terminal."""
    home = home_with(tmp_path, RotatingProvider(), 3)
    ended = await authpool_on(home, "seal", env={"KEY": KEY})
    assert (ended.out, ended.err) == ("The accounts' secrets are sealed: 3 records written\n", "")
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", "--home", str(home), "unseal"),
        env={**os.environ, "KEY": KEY, "PYTHONPATH": str(Path(authpool.__file__).parents[1]), "TERM": "xterm"},
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    out, _ = await process.communicate()
    shown = await asyncio.to_thread(os.read, ours, 65536)
    os.close(ours)
    assert out.decode().startswith("The accounts' secrets are in plain")
    assert b"Unsealing" in shown
    assert b"3/3" in shown
    quiet = await authpool_on(home, "seal", "--json", env={"KEY": KEY})
    assert quiet.json == {
        "ok": True,
        "message": "The accounts' secrets are sealed: 3 records written",
        "written": 3,
        "unchanged": 0,
        "unreadable": [],
    }


async def test_what_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    """For it is not sealed: the others are, and the status says that something is left."""
    home = home_with(tmp_path, RotatingProvider(), 2)
    (home / "accounts" / "google" / "user000.toml").write_text("[tok")
    ended = await authpool_on(home, "seal", "--json", env={"KEY": KEY})
    assert ended.status == 1
    assert ended.json["unreadable"] == ["google/user000.toml"]  # type: ignore[index]
    assert sealed_files(home) == 1


async def test_the_stock_tools_say_why_before_they_start(tmp_path: Path) -> None:
    """In a line, rather than in the middle of what mitmproxy says."""
    home = home_with(tmp_path, RotatingProvider(), 1)
    assert (await authpool_on(home, "seal", env={"KEY": KEY})).status == 0
    ended = await authpool_on(home, "mitmdump", env={"KEY": OTHER})
    assert ended.status == 1
    assert ended.err.startswith(f"authpool: {home}/authpool.toml: gateway.seal_key: does not open what is sealed")
