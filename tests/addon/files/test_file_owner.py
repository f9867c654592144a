"""Whose the files are: root may work on somebody else's home, and leaves nothing in it that its owner can't use."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from authpool.errors import RefusedError
from authpool.files.file_owner import give_to_owner, make_for_owner
from authpool.files.home import secure_folder
from support.home import account_path, make_home, read_account

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")

ROOT = Path(__file__).parents[3]
OWNER = 65534
OTHER = 65533


def give_away(path: Path) -> None:
    for each in (path, *path.rglob("*")):
        os.chown(each, OWNER, OWNER, follow_symlinks=False)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of somebody else, who can reach it: pytest keeps its own folders to itself."""
    pools = {"p": {"type": "static", "hosts": ["x.example"]}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = make_home(folder, pools=pools, accounts={"p/a": {"token": {"access_token": "t"}}})
        give_away(made)
        yield made


AS_ANOTHER = """
import os, sys
from click.testing import CliRunner
from authpool.cli.main import cli

user, spare, *arguments = sys.argv[1:]
for words in (["init"], ["accounts"], ["pause", "p/nobody"], ["reload"]):
    CliRunner().invoke(cli, ["--home", spare, *words])  # all of it is imported now: it may lie where nobody else reads
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
cli(arguments)
"""


def run(home: Path, *arguments: str, user: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = ["-m", "authpool"] if user == 0 else ["-c", AS_ANOTHER, str(user), str(home.parent / "spare")]
    return subprocess.run(
        [sys.executable, *command, "--home", str(home), *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        cwd="/",
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'addon'}:{ROOT / 'plugins'}"},
    )


def owners(home: Path) -> dict[str, int]:
    return {str(path.relative_to(home)): path.lstat().st_uid for path in (home, *home.rglob("*"))}


def test_all_that_root_makes_belongs_to_the_owner(home: Path) -> None:
    """Accounts, locks, folders, the trail, the marker, what runs: one verb after the other."""
    (home / "clients").rmdir()
    (home / "plugins").rmdir()
    for arguments, stdin in (
        (("init",), ""),
        (("pause", "p/a"), ""),
        (("add", "p", "-", "new"), "secret"),
        (("resume", "p/a"), ""),
        (("remove", "p/new", "--yes"), ""),
        (("reload",), ""),
    ):
        ended = run(home, *arguments, stdin=stdin)
        assert ended.returncode == 0, ended.stderr
        assert set(owners(home).values()) == {OWNER}, (arguments, owners(home))
    assert {"audit.jsonl", ".reload", "addon", "clients", "accounts/p/.lock"} <= owners(home).keys()


def test_the_owner_goes_on_after_root(home: Path) -> None:
    """The account is no broken one, and no lock keeps its owner out."""
    assert run(home, "pause", "p/a").returncode == 0
    shown = run(home, "accounts", "--json", user=OWNER)
    assert [row["state"] for row in json.loads(shown.stdout)] == ["paused"]
    assert run(home, "resume", "p/a", user=OWNER).returncode == 0
    assert run(home, "reload", user=OWNER).returncode == 0


def test_somebody_elses_home_is_refused_by_name(home: Path) -> None:
    """A user who is neither its owner nor root is told whose it is, and nothing is made."""
    before = owners(home)
    ended = run(home, "pause", "p/a", user=OTHER)
    assert ended.returncode == 1
    assert "belongs to" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert owners(home) == before


def test_what_root_made_earlier_is_given_back(home: Path) -> None:
    """A lock and a trail of an older version are root's: the next command of root's mends them."""
    for path in (home / "accounts" / "p" / ".lock", home / "audit.jsonl"):
        path.touch(mode=0o600)
        os.chown(path, 0, 0)
    os.chown(account_path(home, "p/a"), 0, 0)
    assert run(home, "pause", "p/a").returncode == 0
    assert set(owners(home).values()) == {OWNER}
    assert read_account(home, "p/a")["proxy_disabled"] is True


def test_a_home_that_root_makes_is_roots(tmp_path: Path) -> None:
    """Only what is made in a home goes to the home's owner; and none is made where another user could exchange it."""
    assert run(tmp_path / "home", "init").returncode == 0
    assert set(owners(tmp_path / "home").values()) == {0}
    os.chown(tmp_path, OWNER, OWNER)
    refused = run(tmp_path / "another", "init")
    assert (refused.returncode, f"{tmp_path} belongs to" in refused.stderr) == (1, True)
    assert not (tmp_path / "another").exists()


async def test_several_make_one_file_at_once(tmp_path: Path) -> None:
    """It is the owner's from its first moment on, whoever is faster."""
    os.chown(tmp_path, OWNER, OWNER)
    paths = [tmp_path / "lock"] * 20
    await asyncio.gather(*(asyncio.to_thread(make_for_owner, path) for path in paths))
    assert owners(tmp_path) == {".": OWNER, "lock": OWNER}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Somebody's link in their own home gives them no file of root's."""
    os.chown(tmp_path, OWNER, OWNER)
    precious = tmp_path.parent / "precious"
    precious.touch()
    (tmp_path / "audit.jsonl").symlink_to(precious)
    make_for_owner(tmp_path / "audit.jsonl")
    give_to_owner(tmp_path / "audit.jsonl", tmp_path)
    assert precious.stat().st_uid == 0


def test_a_folder_inside_is_given_with_its_home(tmp_path: Path) -> None:
    """And one that is in the way is left alone."""
    os.chown(tmp_path, OWNER, OWNER)
    secure_folder(tmp_path / "run", inside=True)
    assert (tmp_path / "run").stat().st_uid == OWNER
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match="not a folder"):
        secure_folder(tmp_path / "file", inside=True)
