"""`authpool import` as a shell runs it: three hundred accounts of another tool, Ctrl-C, kill -9, and what is told."""

import asyncio
import json
import os
import pty
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.answers import Slow
from support.command_line import authpool_on, start
from support.home import make_home
from support.operator import Desk, open_desk
from support.provider import OidcProvider


def antigravity_folder(desk: Desk, folder: Path, count: int) -> list[str]:
    """A data folder as Antigravity Manager leaves it: every tenth account disabled, every tenth paused."""
    (folder / "accounts").mkdir(parents=True)
    listed = []
    for number in range(count):
        name, one = f"user{number:03}@example.com", str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))
        disabled, paused = number % 10 == 3, number % 10 == 7
        document = {
            "id": one,
            "email": name,
            "name": f"User {number}",
            "token": {
                "access_token": "old",
                "refresh_token": desk.provider.issue(name)["refresh_token"],
                "expires_in": 3599,
                "expiry_timestamp": 1700003600 + number,
                "token_type": "Bearer",
                "is_gcp_tos": False,
            },
            "quota": None,
            "disabled": disabled,
            "disabled_reason": "invalid_grant: Token has been revoked." if disabled else None,
            "disabled_at": 1700000000 + number if disabled else None,
            "proxy_disabled": paused,
            "proxy_disabled_reason": "quota protection" if paused else None,
            "proxy_disabled_at": 1710000000 + number if paused else None,
            "protected_models": [],
            "created_at": 1690000000 + number,
            "last_used": 1700000000,
            "custom_label": f"label {number}",
            "device_profile": {"machine_id": "a-device"},
        }
        write(folder / "accounts" / f"{one}.json", json.dumps(document))
        listed.append({"id": one, "email": name, "name": None, "disabled": False, "created_at": 1690000000 + number})
    listed.reverse()  # the user's own order
    index = json.dumps({"version": "2.0", "accounts": listed, "current_account_id": listed[0]["id"]})
    write(folder / "accounts.json", f"\ufeff{index}\x00\x00")
    return [one["email"] for one in listed]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def csv_of(desk: Desk, path: Path, *names: str) -> Path:
    return write(path, "".join(f"{name},{desk.provider.issue(name)['refresh_token']}\n" for name in names))


async def test_antigravity_folder_of_300_accounts(tmp_path: Path) -> None:
    """States, reasons, times, labels and order are carried over; the second run changes nothing."""
    async with open_desk(tmp_path) as desk:
        order = antigravity_folder(desk, tmp_path / "data", 300)
        dry = await authpool_on(desk.home, "import", "--pool", "google", str(tmp_path / "data"), "--dry-run", "--json")
        told: Any = dry.json
        assert (dry.status, told["counts"]) == (0, {"added": 270, "added as disabled": 30})
        assert desk.posts == []

        ended = await authpool_on(desk.home, "import", "--pool", "google", str(tmp_path / "data"))
        assert (ended.status, ended.err) == (0, "") or "of 300 entries" in ended.err
        assert "Imported into google: 300 entries" in ended.out
        assert "added as disabled  30" in ended.out
        assert len(desk.posts) == len(set(desk.posts)) == 270
        for place, name in enumerate(order):
            number, stored = int(name[4:7]), desk.stored(f"google/{name}")
            assert (stored["created_at"], stored["label"]) == (1690000000 + number, f"label {number}")
            assert stored["order"] == place
            assert stored["disabled"] is (number % 10 == 3)
            assert stored["proxy_disabled"] is (number % 10 == 7)
            if stored["disabled"]:
                assert stored["disabled_at"] == 1700000000 + number
                assert stored["disabled_reason"] == "invalid_grant: Token has been revoked."
            if stored["proxy_disabled"]:
                assert stored["proxy_disabled_at"] == 1710000000 + number
                assert stored["proxy_disabled_reason"] == "quota protection"
            assert "a-device" not in desk.file_of(f"google/{name}").read_text()

        again = await authpool_on(desk.home, "import", "--pool", "google", str(tmp_path / "data"), "--json")
        told = again.json
        assert (again.status, told["counts"]) == (0, {"unchanged": 300})
        assert len(desk.posts) == 270


async def test_what_failed_is_told_and_is_the_exit_status(tmp_path: Path) -> None:
    """A table for people; without a secret, and with where each stands."""
    async with open_desk(tmp_path) as desk:
        path = csv_of(desk, tmp_path / "list.csv", "a@example.com")
        write(path, path.read_text() + "b@example.com,the-dead-secret\n")
        ended = await authpool_on(desk.home, "import", "--pool", "google", str(path))
        assert ended.status == 1
        assert f"{path}, line 2" in ended.out
        assert "the provider rejects the credential" in ended.out
        assert ended.err == "authpool: 1 of 2 entries failed\n"
        assert "the-dead-secret" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("arguments", "status"),
    ((["--pool", "google"], 2), (["x.csv"], 2), (["--pool", "gogle", "x.csv"], 1), (["--pool", "google", "x.csv"], 1)),
)
async def test_wrong_usage_and_refusals(tmp_path: Path, arguments: list[str], status: int) -> None:
    """2 for the one, 1 for the other."""
    async with open_desk(tmp_path) as desk:
        assert (await authpool_on(desk.home, "import", *arguments)).status == status


async def posted(desk: Desk, count: int) -> None:
    async with asyncio.timeout(60):
        while len(desk.posts) < count:
            await asyncio.sleep(0.01)


async def test_ctrl_c_ends_with_a_summary_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """What was begun is written, and nothing is presented twice."""
    async with open_desk(tmp_path) as desk:
        names = [f"u{n}@example.com" for n in range(40)]
        path = csv_of(desk, tmp_path / "list.csv", *names)
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        process = await start(
            "--home", str(desk.home), "import", "--pool", "google", str(path), "--jobs", "4", "--json"
        )
        await posted(desk, 4)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"interrupted" in await asyncio.wait_for(process.stderr.readline(), 30)
        gate.set()
        out, err = await process.communicate()
        told = json.loads(out)
        assert process.returncode == 1
        assert told["counts"] == {"added": 4, "not tried": 36}
        assert "interrupted" in told["error"]
        assert b"Traceback" not in err

        desk.token_endpoint.script = desk.provider
        again = await authpool_on(desk.home, "import", "--pool", "google", str(path), "--json")
        told = again.json
        assert told["counts"] == {"added": 36, "unchanged": 4}
        assert len(desk.posts) == len(set(desk.posts)) == 40
        assert desk.unclaimed == []


@pytest.mark.parametrize("moment", ("while the provider is asked", "while the name is asked"))
async def test_killed_import_loses_nothing_that_reached_it(tmp_path: Path, moment: str) -> None:
    """By kill -9: a pair that arrived is kept, and the next run presents that one; nothing is presented twice."""
    async with open_desk(tmp_path) as desk:
        path = csv_of(desk, tmp_path / "list.csv", *(f"u{n}@example.com" for n in range(12)))
        gate = asyncio.Event()
        if moment == "while the provider is asked":
            desk.token_endpoint.script = lambda number, form: (
                Slow(gate, desk.provider(number, form)) if number >= 6 else desk.provider(number, form)
            )
        else:
            answer = desk.userinfo.answer

            async def slow(request: Any) -> Any:
                given = await answer(request)
                return given if len(desk.userinfo.received) <= 6 else Slow(gate, given)

            desk.userinfo.answer = slow  # type: ignore[method-assign]
        process = await start("--home", str(desk.home), "import", "--pool", "google", str(path), "--jobs", "3")
        async with asyncio.timeout(60):
            while len(desk.posts) < 9 or (moment == "while the name is asked" and len(desk.userinfo.received) < 9):
                await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        presented = list(desk.posts)
        gate.set()
        desk.token_endpoint.script = desk.provider
        if moment == "while the name is asked":
            desk.userinfo.answer = answer  # type: ignore[method-assign]
            assert len(desk.unclaimed) == 3
        again = await authpool_on(desk.home, "import", "--pool", "google", str(path), "--json")
        told: Any = again.json
        if moment == "while the name is asked":
            assert told["counts"] == {"added": 6, "unchanged": 6}
            assert desk.unclaimed == []
            assert len(desk.posts) == len(set(desk.posts))
            assert all(desk.provider.is_alive(f"u{n}@example.com") for n in range(12))
        else:  # three answers never arrived: nobody can tell what became of those, and the others are as they should be
            assert told["counts"] == {"added": 3, "failed": 3, "unchanged": 6}
            assert sum("cut off" in one["detail"] for one in told["entries"]) == 3
            assert set(presented[:6]).isdisjoint(desk.posts[9:])


async def test_terminal_gets_a_bar_and_a_log_gets_lines(tmp_path: Path) -> None:
    """The bar is on standard error, where that is a terminal."""
    async with open_desk(tmp_path) as desk:
        path = csv_of(desk, tmp_path / "list.csv", "a@example.com", "b@example.com")
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(os.sys.executable, "-m", "authpool", "--home", str(desk.home), "import", "--pool", "google", str(path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=slave,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(os.sys.path), "TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(slave)
        out, _ = await process.communicate()
        shown = os.read(master, 65536).decode()
        os.close(master)
        assert process.returncode == 0
        assert "Importing" in shown
        assert "2/2" in shown
        assert b"Importing" not in out
        assert b"added   2" in out


@pytest.mark.node
async def test_real_provider_keeps_every_grant(
    tmp_path: Path, provider: OidcProvider, new_account: Callable[[], str]
) -> None:
    """Npm oidc-provider rotates, and ends a grant whose spent token comes again: so two runs present nothing twice."""
    names = [new_account() for _ in range(12)]
    responses = [await provider.grant(name) for name in names]
    home = make_home(tmp_path, pools={"real": provider.pool()})
    path = write(tmp_path / "responses.json", json.dumps(responses))
    for counts in ({"added": 12}, {"unchanged": 12}):
        ended = await authpool_on(home, "import", "--pool", "real", str(path), "--json")
        told: Any = ended.json
        assert (ended.status, told["counts"]) == (0, counts)
    assert {one["account"] for one in told["entries"]} == {f"real/{name}" for name in names}
    for name in names[:3]:
        assert (await authpool_on(home, "refresh", f"real/{name}")).status == 0
