"""`authpool export`: for another home or a safe, never for a terminal or for other users; and back by `import`."""

import asyncio
import json
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest

from authpool.store.folder.trail_files import read_trail
from support.command_line import authpool_on
from support.home import make_home
from support.operator import Desk, open_desk

PASSPHRASE = {"EXPORT_PASSPHRASE": "correct horse battery staple"}
SEALED = ("--passphrase", "env:EXPORT_PASSPHRASE")


async def filled(desk: Desk) -> None:
    """Three accounts: one that serves, one that is paused, one that is disabled."""
    for name in ("a", "b"):
        await desk.operations.add("google", desk.signed_in(f"{name}@example.com"))
    await desk.operations.pause("google/b@example.com")
    desk.write(
        "google/c@example.com",
        disabled=True,
        disabled_at=1700000000,
        disabled_reason="invalid_grant: gone",
        subject="id-of-c",
        label="spare",
        order=7,
        token={"refresh_token": "dead"},
    )


def another_home(desk: Desk, folder: Path) -> Path:
    """A home with the same pools, and no account."""
    folder.mkdir()
    home = make_home(folder, pools={})
    (home / "authpool.toml").write_bytes((desk.home / "authpool.toml").read_bytes())
    return home


@pytest.mark.parametrize("how", (("--plain",), SEALED), ids=("plain", "sealed"))
async def test_another_home_gets_the_same_accounts(tmp_path: Path, how: tuple[str, ...]) -> None:
    """With their states, reasons, times and labels; the file is private, and a sealed one shows nothing."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        path = tmp_path / "export.json"
        ended = await authpool_on(desk.home, "export", "google", "--to", str(path), *how, env=PASSPHRASE)
        assert (ended.status, ended.err) == (0, "")
        assert "Exported 3 accounts of google" in ended.out
        assert path.stat().st_mode & 0o777 == 0o600
        assert ("example.com" in path.read_text()) is (how == ("--plain",))

        home = another_home(desk, tmp_path / "other")
        opened = () if how == ("--plain",) else SEALED
        back = await authpool_on(home, "import", "--pool", "google", str(path), "--json", *opened, env=PASSPHRASE)
        told: Any = back.json
        assert (back.status, told["counts"]) == (0, {"added": 2, "added as disabled": 1})
        accounts: Any = (await authpool_on(home, "accounts", "--json")).json
        assert [(row["name"][0], row["state"], row["reason"]) for row in accounts] == [
            ("a", "ready", ""),
            ("b", "paused", "manual"),
            ("c", "disabled", "invalid_grant: gone"),
        ]
        text = next((home / "accounts" / "google").glob("c*.toml")).read_text()
        for line in ('subject = "id-of-c"', 'label = "spare"', "order = 7", "disabled_at = 1700000000"):
            assert line in text


@pytest.mark.parametrize("how", (("--plain",), SEALED), ids=("plain", "sealed"))
async def test_export_goes_through_a_pipe(tmp_path: Path, how: tuple[str, ...]) -> None:
    """From standard output to standard input, and lies on no disk."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        ended = await authpool_on(desk.home, "export", "google", *how, env=PASSPHRASE)
        home = another_home(desk, tmp_path / "other")
        opened = () if how == ("--plain",) else SEALED
        arguments = ("import", "--pool", "google", "-", "--json", *opened)
        back = await authpool_on(home, *arguments, stdin=ended.out, env=PASSPHRASE)
        told: Any = back.json
        assert (back.status, told["counts"]) == (0, {"added": 2, "added as disabled": 1})
        refused = await authpool_on(home, "import", "--pool", "google", "-", stdin=ended.out[:-5])
        assert refused.status == 1
        assert "standard input" in refused.out + refused.err


async def test_old_export_of_the_same_home_spends_nothing(tmp_path: Path) -> None:
    """What was exchanged since is known; what is current is known as well."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        path = tmp_path / "export.json"
        await authpool_on(desk.home, "export", "google", "--plain", "--to", str(path))
        await desk.operations.refresh("google/a@example.com")
        posts = list(desk.posts)
        back = await authpool_on(desk.home, "import", "--pool", "google", str(path), "--json")
        told: Any = back.json
        assert (back.status, told["counts"]) == (0, {"unchanged": 3})
        assert desk.posts == posts
        assert desk.provider.is_alive("a@example.com")


async def test_export_is_in_the_trail_without_a_secret(tmp_path: Path) -> None:
    """One entry for all, which counts for no account's credential."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        ended = await authpool_on(desk.home, "export", "google", "--plain")
        assert [one["name"] for one in json.loads(ended.out)] == ["c@example.com", "a@example.com", "b@example.com"]
        (entry,) = [one for one in read_trail(desk.home) if one.event == "exported"]
        assert (entry.account, entry.reason, entry.fingerprint) == ("google/*", "3 accounts, in plain", None)
        shown = await authpool_on(desk.home, "history")
        assert "exported" in shown.out


async def test_secrets_are_not_shown_on_a_terminal(tmp_path: Path) -> None:
    """Nor written into a file that others can read."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        command = (sys.executable, "-m", "authpool", "--home", str(desk.home), "export", "google", "--plain")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        master, slave = pty.openpty()
        shared = tmp_path / "shared.json"
        with shared.open("wb") as file:
            shared.chmod(0o644)
            for output, words in ((slave, b"not shown on a terminal"), (file.fileno(), b"others can read")):
                process = await asyncio.create_subprocess_exec(
                    *command, stdout=output, stderr=asyncio.subprocess.PIPE, env=environment
                )
                _, err = await process.communicate()
                assert process.returncode == 1
                assert words in err
        os.close(slave)
        os.close(master)
        assert shared.read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    (
        (("google",), 2, "say either"),
        (("google", "--plain", *SEALED), 2, "say either"),
        (("google", "--plain", "--json"), 2, "--to"),
        (("gogle", "--plain"), 1, "no such pool"),
        (("keys", "--plain"), 1, "nothing to export"),
        (("google", "--passphrase", "correct horse battery staple"), 1, "remembered by shells"),
        (("google", "--passphrase", "env:SHORT"), 1, "too short"),
        (("google", "--passphrase", "env:UNSET"), 1, "is empty"),
        (("google", "--plain", "--to", "/nowhere/export.json"), 1, "No such file"),
        (("google", "--plain", "--to", "/dev/null"), 1, "is there already"),
    ),
)
async def test_refusals(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    """Each says why, and repeats no passphrase."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        ended = await authpool_on(desk.home, "export", *arguments, env={**PASSPHRASE, "SHORT": "short"})
        assert ended.status == status
        assert words in ended.err + ended.out
        assert "battery" not in ended.err
        assert "refresh-" not in ended.out


async def test_sealed_home_is_exported_with_its_key(tmp_path: Path) -> None:
    """And without it nothing is, rather than half."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        text = (desk.home / "authpool.toml").read_text()
        (desk.home / "authpool.toml").write_text(f'{text}\n[gateway]\nseal_key = "env:SEAL_KEY"\n')
        key = {"SEAL_KEY": os.urandom(32).hex()}
        assert (await authpool_on(desk.home, "seal", env=key)).status == 0
        ended = await authpool_on(desk.home, "export", "google", "--plain", env=key)
        assert [one["refresh_token"][:4] for one in json.loads(ended.out)] == ["dead", "refr", "refr"]
        without = await authpool_on(desk.home, "export", "google", "--plain")
        assert (without.status, without.out) == (1, "")


async def test_account_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """The others are exported, and the exit status says that it is not all."""
    async with open_desk(tmp_path) as desk:
        await filled(desk)
        desk.file_of("google/a@example.com").write_text("no toml")
        ended = await authpool_on(desk.home, "export", "google", "--plain")
        assert ended.status == 1
        assert len(json.loads(ended.out)) == 2
        assert "can't be read, and are not in it: google/a@example.com" in ended.err
