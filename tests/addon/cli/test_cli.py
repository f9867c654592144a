"""The command line: as a real process on a real home, and its wrong usages."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

import authpool
from authpool.cli.main import cli
from authpool.cli.scaffold import LOADER
from authpool.cli.session import Session
from authpool.cli.tools import tool_arguments
from authpool.verbs.revocation import NO_ENDPOINT
from support.answers import Slow
from support.command_line import SOURCES, Ended, run, start
from support.operator import Desk, open_desk

ALICE = "google/alice@example.com"


async def on(desk: Desk, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
    return await run("--home", str(desk.home), *arguments, stdin=stdin, env=env)


# --- the real process ------------------------------------------------------------------------------------------------


async def test_history_on_the_command_line(tmp_path: Path) -> None:
    """What the command line did, newest last, for people and for scripts; also when the configuration is broken."""
    async with open_desk(tmp_path) as desk:
        assert (await on(desk, "history")).out.startswith("Nothing has happened yet")
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        assert (await on(desk, "pause", ALICE)).status == 0
        (desk.home / "authpool.toml").write_text("[")
        header, *lines = [line.split() for line in (await on(desk, "history", ALICE)).out.splitlines()]
        assert header[:2] == ["TIME", "EVENT"]
        assert [line[1:3] for line in lines] == [["added", ALICE], ["paused", ALICE]]
        entries = (await on(desk, "history", "--json")).json
        assert isinstance(entries, list)
        assert [(entry["event"], entry["process"]["kind"], entry["reason"]) for entry in entries] == [
            ("added", "gateway", ""),
            ("paused", "command line", "manual"),
        ]
        assert (await on(desk, "history", "google/nobody", "--json")).json == []


async def test_life_of_an_account_on_the_command_line(tmp_path: Path) -> None:
    """Add from a file, look, pause, resume, refresh, die, come back, remove: answers, exit status and files agree."""
    async with open_desk(tmp_path) as desk:
        source = tmp_path / "token.json"
        source.write_text(json.dumps(desk.provider.issue("alice@example.com")))
        source.chmod(0o600)
        assert await on(desk, "add", "google", f"@{source}") == Ended(0, f"Added {ALICE}\n", "")
        shown = await on(desk, "accounts")
        assert [line.split() for line in shown.out.splitlines()] == [
            ["POOL", "NAME", "STATE", "SINCE", "EXPIRES", "SERVED", "REASON"],
            ["google", "alice@example.com", "ready", "-", shown.out.split()[-3], "-", "-"],
        ]
        assert shown.out.split()[-3].endswith("Z")
        assert (await on(desk, "pause", ALICE)).out == f"Paused {ALICE}\n"
        assert desk.stored(ALICE)["proxy_disabled"]
        assert (await on(desk, "resume", ALICE)).status == 0
        assert (await on(desk, "refresh", ALICE)).status == 0

        desk.provider.revoke("alice@example.com")
        died = await on(desk, "refresh", ALICE)
        assert (died.status, died.out) == (1, "")
        assert f"authpool: {ALICE}: it is disabled now (invalid_grant" in died.err
        assert "Traceback" not in died.err
        assert (await on(desk, "enable", ALICE)).status == 1

        fresh = desk.provider.issue("alice@example.com")["refresh_token"]
        back = await on(desk, "add", "google", "-", "--json", stdin=f"{fresh}\n")
        assert back.status == 0
        assert "is enabled again" in str(back.json)
        removed = await on(desk, "remove", ALICE, "--yes", "--json")
        assert removed.status == 0
        assert removed.json == {"ok": True, "message": f"Removed {ALICE}; {NO_ENDPOINT}"}
        assert (await on(desk, "accounts", "--json")).json == []


async def test_json_for_scripts(tmp_path: Path) -> None:
    """Accounts are an array with Unix seconds; a refusal is JSON on standard output with exit status 1."""
    async with open_desk(tmp_path) as desk:
        desk.write(ALICE, disabled=True, disabled_at=1_700_000_000, disabled_reason="dead", token={"expires_at": 5})
        assert (await on(desk, "accounts", "--json")).json == [
            {
                "pool": "google",
                "name": "alice@example.com",
                "state": "disabled",
                "reason": "dead",
                "since": 1_700_000_000,
                "until": None,
                "expires_at": 5,
                "served": None,
            }
        ]
        refused = await on(desk, "pause", "google/alise@example.com", "--json")
        assert (refused.status, refused.err) == (1, "")
        assert refused.json == {
            "ok": False,
            "error": "there is no account google/alise@example.com. Did you mean alice@example.com?",
            "code": "unknown_account",
        }
        paused = await on(desk, "pause", ALICE, "--json")
        assert paused.status == 0
        assert json.loads(paused.out)["ok"] is True


async def test_secret_from_the_environment(tmp_path: Path) -> None:
    """`env:NAME` reads the environment of the command."""
    async with open_desk(tmp_path) as desk:
        added = await on(desk, "add", "keys", "env:TEAM_KEY", "team", env={"TEAM_KEY": "key-1"})
        assert added == Ended(0, "Added keys/team\n", "")


async def test_hidden_prompt_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal `-` asks, and what is typed is shown nowhere."""
    async with open_desk(tmp_path) as desk:
        ours, theirs = os.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "authpool", "--home", str(desk.home), "add", "keys", "-", "team"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": SOURCES},
            start_new_session=True,
        )
        os.close(theirs)
        shown = b""
        while b"Credential: " not in shown:
            shown += await asyncio.to_thread(os.read, ours, 4096)
        os.write(ours, b"the-typed-secret\n")
        with suppress(OSError):  # EIO: the other end is closed
            while chunk := await asyncio.to_thread(os.read, ours, 4096):
                shown += chunk
        os.close(ours)
        assert await process.wait() == 0
        assert b"Added keys/team" in shown
        assert b"the-typed-secret" not in shown
        assert desk.stored("keys/team")["token"]["access_token"] == "the-typed-secret"


async def test_init_makes_a_home_and_keeps_it(tmp_path: Path) -> None:
    """Twice is harmless; what to do next follows from the first refusal."""
    home = tmp_path / "home"
    first = await run("init", env={"AUTHPOOL_HOME": str(home)})
    assert first.status == 0
    assert f"created  {home / 'authpool.toml'}" in first.out
    second = await run("--home", str(home), "init", "--json")
    assert "created" in str(second.json)
    assert "True" not in str([item["created"] for item in json.loads(second.out)["items"]])
    added = await run("--home", str(home), "add", "google", "-", stdin="token")
    assert added.status == 1
    assert "there are no pools yet" in added.err


async def test_missing_home_names_init(tmp_path: Path) -> None:
    """Without a home the remedy is told, and none is made."""
    ended = await run("--home", str(tmp_path / "none"), "accounts")
    assert (ended.status, ended.out) == (1, "")
    assert "authpool init" in ended.err
    assert not (tmp_path / "none").exists()


async def test_home_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    """Its secrets may be read by others: the command to run is told."""
    async with open_desk(tmp_path) as desk:
        desk.home.chmod(0o750)
        ended = await on(desk, "accounts")
        assert ended.status == 1
        assert f"chmod 700 '{desk.home}'" in ended.err


async def test_reload_counts_and_marks(tmp_path: Path) -> None:
    """Each pool's accounts are counted by state, and the marker that gateways watch is touched anew each time."""
    async with open_desk(tmp_path) as desk:
        desk.write("google/a", token={"access_token": "a", "refresh_token": "r"})
        desk.write("google/b", disabled=True)
        ended = await on(desk, "reload")
        assert ended.status == 0
        assert "google: 1 ready, 1 disabled\n" in ended.out
        first = (desk.home / ".reload").stat()
        assert first.st_mode & 0o777 == 0o600
        again = await on(desk, "reload", "--json")
        assert json.loads(again.out)["pools"] == {"google": {"ready": 1, "disabled": 1}, "keys": {}, "service": {}}
        assert (desk.home / ".reload").stat().st_mtime_ns > first.st_mtime_ns


async def test_reload_of_a_wrong_configuration_reaches_no_gateway(tmp_path: Path) -> None:
    """File, key and remedy are told, and the marker is not touched."""
    async with open_desk(tmp_path) as desk:
        (desk.home / "authpool.toml").write_text('[pools.google]\nhots = ["a.example"]\n')
        ended = await on(desk, "reload")
        assert ended.status == 1
        assert "authpool.toml: pools.google.hots" in ended.err
        assert "Did you mean `hosts`?" in ended.err
        assert not (desk.home / ".reload").exists()


async def test_interrupted_add_keeps_the_rotated_token(tmp_path: Path) -> None:
    """Ctrl-C while the provider is answering: the process ends after the new token is safe."""
    async with open_desk(tmp_path) as desk:
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        given = desk.provider.issue("alice@example.com")["refresh_token"]
        process = await start("--home", str(desk.home), "add", "google", "env:T", env={"T": given})
        async with asyncio.timeout(30):
            while not desk.posts:
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        gate.set()
        await process.communicate()
        assert process.returncode == 1
        (kept,) = desk.unclaimed
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])


# --- the stock tools -------------------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
async def test_stock_tool_gets_every_argument_untouched(tmp_path: Path) -> None:
    """`--help` is mitmdump's own, and the process becomes mitmdump."""
    ended = await run("mitmdump", "--help")
    assert ended.out.startswith("usage: mitmdump")
    assert "--set option" in ended.out


@pytest.mark.mitmproxy
async def test_stock_tool_has_the_gateway_loaded(tmp_path: Path) -> None:
    """The script's own option is known to the tool, with the home that was given."""
    await run("--home", str(tmp_path / "home"), "init")
    process = await start(
        *("--home", str(tmp_path / "home"), "mitmdump", "--listen-port", "0", "--set", f"confdir={tmp_path}"),
        env={"PYTHONUNBUFFERED": "1"},
    )
    seen = ""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while "listening at" not in seen:
            line = (await process.stdout.readline()).decode()
            assert line, seen
            seen += line
    process.terminate()
    out, err = await process.communicate()
    assert "rror" not in seen + out.decode() + err.decode()


def test_home_goes_to_the_tool_only_when_it_was_given(tmp_path: Path) -> None:
    """Otherwise the environment says the same to both."""
    tool = str(Path(sys.executable).with_name("mitmweb"))
    arguments = ("--", "-n", "~u x")
    assert tool_arguments("mitmweb", Session(None), arguments) == [tool, "-s", str(LOADER), *arguments]
    home = f"authpool_home={tmp_path}"
    assert tool_arguments("mitmweb", Session(str(tmp_path)), ()) == [tool, "-s", str(LOADER), "--set", home]


# --- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    (
        ["nonsense"],
        ["--nonsense"],
        ["--home"],
        ["add"],
        ["add", "google"],
        ["add", "google", "@f", "name", "more"],
        ["accounts", "--yaml"],
        ["pause"],
        ["resume"],
        ["enable"],
        ["refresh"],
        ["remove"],
        ["history", "a/b", "c/d"],
        ["reload", "now"],
        ["init", "here"],
    ),
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """What click can't make sense of is exit status 2, told on standard error."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    (
        (["add", "google", "1//the-secret"], "SOURCE must be @FILE or env:NAME, or - for"),
        (["add", "google", "@/nowhere"], "/nowhere can't be read"),
        (["pause", "alice"], "POOL/NAME"),
        (["history", "alice"], "POOL/NAME"),
        (["remove", "google/alice"], "say --yes"),
    ),
)
def test_refusal_ends_with_1(tmp_path: Path, arguments: list[str], words: str) -> None:
    """What is understood and refused is exit status 1, one line on standard error, nothing on standard output."""
    home = ["--home", str(tmp_path / "home")]
    assert CliRunner().invoke(cli, [*home, "init"]).exit_code == 0
    result = CliRunner().invoke(cli, [*home, *arguments])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("authpool: ")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "the-secret" not in result.stderr
    told = CliRunner().invoke(cli, [*home, *arguments, "--json"])
    assert (told.exit_code, told.stderr) == (1, "")
    assert words in json.loads(told.stdout)["error"]


def test_version_and_help() -> None:
    """Both answer, and every verb of the contract is listed."""
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"authpool, version {authpool.__version__}\n"
    listed = CliRunner().invoke(cli, ["--help"]).stdout
    verbs = "accounts add enable history init mitmdump mitmproxy mitmweb pause plugins refresh reload remove resume"
    assert all(f"  {verb} " in listed for verb in verbs.split())


async def test_plugins_are_listed_whatever_the_configuration_is_like(tmp_path: Path) -> None:
    """Name, origin, version, hooks, and why one is left out; a table for people, JSON for scripts."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "broken.py").write_text("import nowhere_to_be_found")
    (tmp_path / "named.py").write_text("from authpool import hookimpl\n@hookimpl\ndef authpool_stop(): ...\n")
    (tmp_path / "authpool.toml").write_text("this is no TOML")
    env = {"AUTHPOOL_PLUGINS": str(tmp_path / "named.py")}
    told = await run("--home", str(tmp_path), "plugins", "--json", env=env)
    assert isinstance(told.json, list)
    rows = {row["name"]: row for row in told.json}
    assert rows["round_robin"]["hooks"] == ["authpool_rotation"]
    assert (rows["round_robin"]["origin"], rows["round_robin"]["version"]) == ("first-party", authpool.__version__)
    assert rows["named"]["hooks"] == ["authpool_stop"]
    assert "ModuleNotFoundError" in rows["broken"]["left_out"]
    table = (await run("--home", str(tmp_path), "plugins")).out.splitlines()
    assert table[0].split() == ["NAME", "ORIGIN", "VERSION", "HOOKS", "LEFT", "OUT"]
    assert any(line.startswith("broken ") and "nowhere_to_be_found" in line for line in table)
