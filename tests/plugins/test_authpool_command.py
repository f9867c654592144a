"""Tokens that a program prints: real scripts, what they may do wrong, and the whole way through a gateway."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import Account
from authpool.config import HostPattern, PoolConfig
from authpool.errors import ConfigurationError, CredentialMisconfiguredError, CredentialUnavailableError
from authpool.plugins.manager import Plugins
from authpool.refresh.token_source import TokenSource
from authpool.testing.token_sources import TokenSourceConformance
from support.home import make_home, read_account
from support.pool_rig import client, gateway_master
from support.upstream import Upstream

ALICE = Account(pool="p", name="alice; echo $HOME")


def script(folder: Path, text: str) -> str:
    path = folder / "print-token"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def source(argv: list[str], **options: Any) -> TokenSource:
    pool = PoolConfig(
        name="p",
        type="command",
        type_options={"argv": argv, **options},
        hosts=(HostPattern.parse("api.example"),),
    )
    made = Plugins().token_source(pool)
    assert made is not None
    return made


async def test_a_line_of_text_is_the_token(tmp_path: Path) -> None:
    """Space around it does not count; without a lifetime nobody knows its end."""
    fetched = await source([script(tmp_path, "echo '  the-token  '")]).fetch(ALICE)
    assert (fetched.access_token, fetched.expires_at) == ("the-token", None)
    assert "the-token" not in repr(fetched)


async def test_the_account_is_one_argument_and_no_shell_sees_it(tmp_path: Path) -> None:
    """Its name may hold anything that a shell would act on."""
    program = script(tmp_path, 'test "$1" = "--for=alice; echo \\$HOME" && test $# = 1 && echo "$VAULT_ADDR"')
    fetched = await source([program, "--for={account}"], env={"VAULT_ADDR": "addr"}, lifetime_seconds=60).fetch(ALICE)
    assert fetched.access_token == "addr"
    assert fetched.expires_at is not None
    assert 50 < fetched.expires_at - time.time() < 61


async def test_it_does_not_see_what_is_authpools_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the secrets of other pools: the common variables are passed on, and those that are named."""
    for name in ("AUTHPOOL_HOME", "GOOGLE_CLIENT_SECRET", "SEAL_KEY", "AWS_PROFILE", "LC_ALL", "TZ"):
        monkeypatch.setenv(name, f"/{name}")
    program = script(
        tmp_path, 'echo "$AUTHPOOL_HOME$GOOGLE_CLIENT_SECRET$SEAL_KEY$AWS_PROFILE$LC_ALL$TZ"; test "$PATH"'
    )
    assert (await source([program]).fetch(ALICE)).access_token == "/LC_ALL/TZ"
    named = source([program], environment=["AWS_PROFILE"])
    assert (await named.fetch(ALICE)).access_token == "/AWS_PROFILE/LC_ALL/TZ"


@pytest.mark.parametrize(
    ("printed", "expires_at"),
    (
        ('{"access_token": "t", "expires_in": 600}', 600),
        ('{"access_token": "t", "expires_in": "600"}', 600),
        ('{"token": "t", "expires_at": 4000000000}', 4_000_000_000),
        ('{"token": "t", "expiration": "2096-10-02T07:06:40Z"}', 4_000_000_000),
        ('{"accessToken": "t", "expiry": "2096-10-02T09:06:40+02:00"}', 4_000_000_000),
        ('{"access_token": "t"}', None),
    ),
)
async def test_json_tells_the_end_of_the_token(printed: str, expires_at: int | None, tmp_path: Path) -> None:
    """As a lifetime, as Unix seconds, or as a date."""
    fetched = await source([script(tmp_path, f"echo '{printed}'")], format="json").fetch(ALICE)
    assert fetched.access_token == "t"
    if expires_at == 600:
        assert fetched.expires_at is not None
        assert 590 < fetched.expires_at - time.time() <= 600
    else:
        assert fetched.expires_at == expires_at


@pytest.mark.parametrize(
    ("text", "options", "words"),
    (
        ("echo secret-output; echo 'not logged in' >&2; exit 3", {}, "failed with status 3: not logged in"),
        (
            "echo 'token=ya29.abcdefghijklmnopqrstuvwxyz is bad' >&2; exit 1",
            {},
            r"status 1: token= \[redacted\] is bad",
        ),
        ("true", {}, "printed no token"),
        ("echo secret-output", {"format": "json"}, "printed no token that can be read"),
        ("echo '[\"secret-output\"]'", {"format": "json"}, "printed no token that can be read"),
        ('echo \'{"password": "secret-output"}\'', {"format": "json"}, "printed no token"),
        ("head -c 700000 /dev/zero | tr '\\0' x", {}, "printed more than 65536 bytes"),
        ("head -c 700000 /dev/zero | tr '\\0' x >&2; echo secret-output", {}, None),
    ),
)
async def test_a_program_that_fails_is_unavailable(
    text: str, options: dict[str, Any], words: str | None, tmp_path: Path
) -> None:
    """With the first line of its complaint, never with what it printed."""
    made = source([script(tmp_path, text)], **options)
    if words is None:  # much of a complaint, and a token all the same
        assert (await made.fetch(ALICE)).access_token == "secret-output"
        return
    with pytest.raises(CredentialUnavailableError, match=words) as caught:
        await made.fetch(ALICE)
    assert "secret-output" not in str(caught.value)
    assert "abcdefghijkl" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_the_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    """The program, and the child that it started and waits for."""
    program = script(tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(CredentialUnavailableError, match="took longer than 1 s"):
        await source([program], seconds=1).fetch(ALICE)
    await ended(int((tmp_path / "child").read_text()))


async def test_a_caller_that_leaves_ends_the_program(tmp_path: Path) -> None:
    """Cancelling leaves no process behind."""
    program = script(tmp_path, f"echo $$ > {tmp_path}/aside; mv {tmp_path}/aside {tmp_path}/self; sleep 300")
    task = asyncio.create_task(source([program]).fetch(ALICE))
    async with asyncio.timeout(30):
        while not (tmp_path / "self").exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended(int((tmp_path / "self").read_text()))


@pytest.mark.parametrize("turns", range(8))
async def test_a_caller_that_leaves_while_it_starts_waits_for_nothing(tmp_path: Path, turns: int) -> None:
    """However far the start has come, in turns of the event loop; nothing of what it started is left."""
    mark = f"MARK={tmp_path}"
    task = asyncio.create_task(source([script(tmp_path, "sleep 300")], env={"MARK": str(tmp_path)}).fetch(ALICE))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=30)
    assert done
    assert task.cancelled()
    async with asyncio.timeout(30):
        while marked(mark):
            await asyncio.sleep(0.01)


def marked(variable: str) -> list[int]:
    """The processes with this variable in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended, or is somebody else's
            if folder.name.isdecimal() and variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


async def ended(pid: int) -> None:
    async with asyncio.timeout(30):
        while alive(pid):
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_program_that_is_not_there_is_the_pools_fault(tmp_path: Path) -> None:
    """Nobody is disabled for it."""
    with pytest.raises(CredentialMisconfiguredError, match="can't be started: No such file"):
        await source([str(tmp_path / "nothing")]).fetch(ALICE)


@pytest.mark.parametrize("by_path", (False, True))
async def test_a_program_that_others_can_exchange_is_not_run(tmp_path: Path, *, by_path: bool) -> None:
    """Nor asked for once it can be: it is looked at before each start. The pool is at fault, and nobody is disabled."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = script(folder, f"echo ran >> {tmp_path}/runs; echo the-token")
    made = source(
        ["print-token"] if by_path else [program], **({"env": {"PATH": f"{folder}:/usr/bin:/bin"}} if by_path else {})
    )
    assert (await made.fetch(ALICE)).access_token == "the-token"
    folder.chmod(0o777)
    with pytest.raises(CredentialMisconfiguredError, match=f"is not run: others may write {folder} .*chmod go-w"):
        await made.fetch(ALICE)
    assert (tmp_path / "runs").read_text() == "ran\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_the_homes_owner_is_trusted_with_the_program(tmp_path: Path) -> None:
    """Who writes the configuration says what is run, by root as well."""
    home = tmp_path / "home"
    home.mkdir()
    program = script(home, "echo the-token")
    pool = PoolConfig(
        name="p",
        type="command",
        type_options={"argv": [program]},
        hosts=(HostPattern.parse("api.example"),),
        home=home,
    )
    made = Plugins().token_source(pool)
    assert made is not None
    os.chown(program, 12345, 12345)
    with pytest.raises(CredentialMisconfiguredError, match="belongs to user 12345"):
        await made.fetch(ALICE)
    os.chown(home, 12345, 12345)
    assert (await made.fetch(ALICE)).access_token == "the-token"


@pytest.mark.parametrize(
    ("options", "words"),
    (
        ({}, r"pools\.p\.type\.argv: is missing or empty"),
        ({"argv": ["x"], "format": "yaml"}, r"pools\.p\.type\.format"),
        ({"argv": ["x"], "seconds": 0}, r"pools\.p\.type\.seconds: is out of range"),
        ({"argv": ["x"], "env": {"A": 1}}, r"pools\.p\.type\.env\.A: must be a string"),
        ({"argv": ["x"], "environment": ["AUTHPOOL_KEY"]}, r"pools\.p\.type\.environment: names AUTHPOOL_KEY"),
        ({"argv": ["x"], "shell": True}, r"pools\.p\.type\.shell: there is no such key"),
    ),
)
def test_mistakes_in_the_options_are_told(options: dict[str, Any], words: str) -> None:
    """With file, key and remedy."""
    pool = PoolConfig(name="p", type="command", type_options=options, hosts=(HostPattern.parse("api.example"),))
    with pytest.raises(ConfigurationError, match=words):
        Plugins().token_source(pool)


@pytest.mark.mitmproxy
async def test_a_request_gets_what_the_script_prints(tmp_path: Path, upstream: Upstream) -> None:
    """The script prints another token after a 401, and the client sees one answer; the program runs twice."""
    program = script(tmp_path, f'echo run >> {tmp_path}/runs; cat "{tmp_path}/$1.token"')
    (tmp_path / "alice.token").write_text("first")
    kind = {"name": "command", "argv": [program, "{account}"]}
    home = make_home(
        tmp_path, pools={"p": {"type": kind, "hosts": [upstream.authority]}}, accounts={"p/alice": {"token": {}}}
    )
    upstream.accept(accepted := {"first"})
    async with (
        gateway_master(home, mode=f"reverse:{upstream.url}") as gateway,
        client(gateway.url) as api,
    ):
        assert [(await api.get("/x")).status_code for _ in range(3)] == [200] * 3
        accepted.clear()
        accepted.add("second")
        (tmp_path / "alice.token").write_text("second")
        assert (await api.get("/x")).status_code == 200
        log = "\n".join(gateway.messages)
    assert [request.bearer for request in upstream.received] == ["first"] * 4 + ["second"]
    assert (tmp_path / "runs").read_text().split() == ["run", "run"]
    assert read_account(home, "p/alice")["token"]["access_token"] == "second"
    assert "first" not in log
    assert "second" not in log.replace("a second", "")


class TestConformance(TokenSourceConformance):
    """The plugin holds to what every token source must."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> TokenSource:
        return source([script(tmp_path, 'echo "token-$$"'), "{account}"], lifetime_seconds=60)

    @pytest.fixture
    def failing_source(self, tmp_path: Path) -> TokenSource:
        return source([script(tmp_path, "printf 'one\\ntwo\\n' >&2; exit 1")])
