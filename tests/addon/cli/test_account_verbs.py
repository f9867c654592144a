"""Verbs on several accounts, on the command line: asked about, and answered one by one."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from support.answers import Hang
from support.command_line import SOURCES, Ended, authpool_on, run, start
from support.home import read_account
from support.operator import Desk, open_desk

NAMES = ("alice@example.com", "bob@example.com", "bonnie@example.org")


async def on(desk: Desk, *arguments: str, stdin: str = "") -> Ended:
    return await authpool_on(desk.home, *arguments, stdin=stdin)


async def desk_with(desk: Desk, *names: str) -> None:
    for name in names or NAMES:
        await desk.operations.add("google", desk.signed_in(name))


def is_paused(desk: Desk, name: str) -> bool:
    return bool(desk.stored(f"google/{name}").get("proxy_disabled"))


async def test_all_of_a_pool_are_asked_about_first(tmp_path: Path) -> None:
    """Where nobody can be asked, --yes says it."""
    async with open_desk(tmp_path) as desk:
        await desk_with(desk)
        refused = await on(desk, "pause", "google/*")
        assert refused.status == 1
        assert "nobody can be asked whether to pause 3 accounts: say --yes" in refused.err
        assert not any(is_paused(desk, name) for name in NAMES)
        done = await on(desk, "pause", "google/*", "--yes")
        assert done == Ended(0, "".join(f"Paused google/{name}\n" for name in NAMES), "")
        assert all(is_paused(desk, name) for name in NAMES)


async def test_a_part_of_the_name_and_each_once(tmp_path: Path) -> None:
    """Case does not matter; who is named twice is paused once; others stay as they are."""
    async with open_desk(tmp_path) as desk:
        await desk_with(desk)
        done = await on(desk, "pause", "google/BO*", "google/bob@example.com", "--yes")
        assert done.out == "Paused google/bob@example.com\nPaused google/bonnie@example.org\n"
        assert not is_paused(desk, "alice@example.com")


async def test_a_name_with_a_star_in_it_is_that_account(tmp_path: Path) -> None:
    """And no pattern."""
    async with open_desk(tmp_path) as desk:
        desk.write("google/a*", token={"refresh_token": "one"})
        desk.write("google/abc", token={"refresh_token": "two"})
        assert (await on(desk, "pause", "google/a*", "--yes")).out == "Paused google/a*\n"


async def test_a_star_alone_is_all_of_a_pool_whoever_is_called_so(tmp_path: Path) -> None:
    """Names come from whoever signs in: none may take the others out of what is meant for all."""
    async with open_desk(tmp_path) as desk:
        desk.write("google/*", token={"refresh_token": "one"})
        desk.write("google/abc", token={"refresh_token": "two"})
        refused = await on(desk, "pause", "google/*")
        assert "whether to pause 2 accounts" in refused.err
        assert (await on(desk, "pause", "google/[*]", "--yes")).out == "Paused google/*\n"
        assert not is_paused(desk, "abc")


@pytest.mark.parametrize(
    ("pattern", "why"),
    (("google/x*", "no account of google matches x*"), ("goggle/*", "no such pool"), ("*", "write accounts as")),
)
async def test_a_pattern_that_means_nobody(tmp_path: Path, pattern: str, why: str) -> None:
    """Is told, and nothing is done."""
    async with open_desk(tmp_path) as desk:
        await desk_with(desk, "alice@example.com")
        ended = await on(desk, "refresh", pattern, "--yes")
        assert ended.status == 1
        assert why in ended.err


async def test_one_that_fails_stops_none_of_the_others(tmp_path: Path) -> None:
    """Each answers for itself, exit status 1; the same for scripts, with a code each."""
    async with open_desk(tmp_path) as desk:
        await desk_with(desk)
        desk.provider.revoke("bob@example.com")
        ended = await on(desk, "refresh", "google/*", "--yes")
        assert ended.status == 1
        assert [line.split(";")[0] for line in ended.out.splitlines()] == [
            "Refreshed google/alice@example.com",
            "Refreshed google/bonnie@example.org",
        ]
        assert "google/bob@example.com: it is disabled now (invalid_grant" in ended.err
        assert "authpool: 1 of 3 failed" in ended.err
        told = json.loads((await on(desk, "refresh", "google/*", "--yes", "--json")).out)
        assert (told["ok"], told["code"], told["message"]) == (False, "some_failed", "2 of 3 done")
        assert [(one["ok"], one.get("code")) for one in told["accounts"]] == [
            (True, None),
            (False, "disabled"),
            (True, None),
        ]


async def test_several_sources_are_added(tmp_path: Path) -> None:
    """One that is no good stops none of the others; a NAME goes with a single one."""
    async with open_desk(tmp_path) as desk:
        sources = []
        for name in NAMES[:2]:
            path = tmp_path / f"{name}.json"
            path.touch(mode=0o600)
            path.write_text(json.dumps(desk.provider.issue(name)))
            sources.append(f"@{path}")
        dead = tmp_path / "dead.token"
        dead.touch(mode=0o600)
        dead.write_text("dead")
        given = ("add", "google", sources[0], f"@{dead}", "@/no/such/file", sources[1])
        refused = await on(desk, *given)
        assert (refused.status, desk.posts) == (1, [])
        assert "nobody can be asked whether to add 4 accounts: say --yes" in refused.err
        ended = await on(desk, *given, "--yes")
        assert (ended.status, ended.out) == (1, "Added google/alice@example.com\nAdded google/bob@example.com\n")
        assert f"authpool: @{dead}: the provider rejects the credential" in ended.err
        assert "authpool: 2 of 4 failed" in ended.err
        again = await on(desk, "add", "google", f"@{dead}", "somebody", "--json")
        assert json.loads(again.out)["code"] == "credential_rejected"


async def test_removing_several_asks_once(tmp_path: Path) -> None:
    """And removes them one after the other."""
    async with open_desk(tmp_path) as desk:
        await desk_with(desk)
        assert (await on(desk, "remove", "google/*")).status == 1
        ended = await on(desk, "remove", "google/bo*", "--yes")
        assert [line.split(";")[0] for line in ended.out.splitlines()] == [
            "Removed google/bob@example.com",
            "Removed google/bonnie@example.org",
        ]
        assert not desk.file_of("google/bob@example.com").exists()
        assert desk.file_of("google/alice@example.com").exists()


async def test_an_interrupt_tells_how_far_it_came(tmp_path: Path) -> None:
    """What was begun lands; what was not is left as it was, and counted."""
    async with open_desk(tmp_path) as desk:
        names = [f"user-{number:02}" for number in range(12)]
        for name in names:
            desk.write(f"google/{name}", token=desk.provider.issue(name))
        desk.token_endpoint.script = lambda number, form: Hang()
        process = await start("--home", str(desk.home), "refresh", "google/*", "--yes")
        while len(desk.token_endpoint.received) < 8:
            await desk.service.clock.sleep(0.02)
        desk.token_endpoint.script = desk.provider
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 1
        assert b"Traceback" not in err
        assert b"interrupted: 4 of 12 accounts were left as they were" in err
        assert err.count(b": interrupted before it was done.") == 8
        assert not any(read_account(desk.home, f"google/{name}").get("disabled") for name in names)


async def test_wrong_usage_is_json_for_scripts(tmp_path: Path) -> None:
    """With exit status 2 as ever, and a code."""
    for arguments in (
        *(("pause", "--json"), ("--json", "no-such-verb"), ("accounts", "--no-such-option", "--json")),
        *(("--json",), ("client", "--json"), ("--json", "client", "no-such-verb")),
    ):
        ended = await run("--home", str(tmp_path), *arguments)
        assert ended.status == 2
        told = json.loads(ended.out)
        assert (told["ok"], told["code"]) == (False, "usage")


async def test_json_is_an_option_only_where_it_is_ours(tmp_path: Path) -> None:
    """Behind ``--`` it is a name, and the version has none; what is refused before any verb is JSON, too."""
    named = await run("--home", str(tmp_path), "pause", "--", "--json")
    assert (named.status, named.out) == (1, "")
    assert (await run("--json", "--version")).out.startswith("authpool")
    refused = await run("accounts", "--json", env={"SSLKEYLOGFILE": str(tmp_path / "keys")})
    assert refused.status == 1
    assert "SSLKEYLOGFILE" in json.loads(refused.out)["error"]


@pytest.mark.parametrize("piped", ("--json", "--yes"))
async def test_who_has_read_enough_ends_nothing(tmp_path: Path, piped: str) -> None:
    """A closed pipe on standard output: the accounts are worked on all the same."""
    async with open_desk(tmp_path) as desk:
        await desk_with(desk)
        ours, theirs = os.pipe()
        os.close(ours)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "authpool", "--home", str(desk.home), "pause", "google/*", "--yes", piped),
            stdout=theirs,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        os.close(theirs)
        _, err = await process.communicate()
        assert err == b""
        assert all(is_paused(desk, name) for name in NAMES)
