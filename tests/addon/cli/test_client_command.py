"""``authpool client`` as a real process: the key alone on standard output, once."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from authpool.cli.main import cli
from authpool.clients.key import PATTERN, parse_key
from support.command_line import authpool_on
from support.home import make_home


async def test_the_life_of_a_client(tmp_path: Path) -> None:
    """Added, listed, rotated, removed; for people and for scripts."""
    home = make_home(tmp_path, pools={"keys": {"type": "static", "hosts": ["keys.example"]}})
    limits = ("--max-in-flight", "4", "--requests-per-second", "0.5")
    scopes = ("--pool", "keys", "--host", "keys.example", "--host", "*.keys.example", "--expires", "30d")
    added = await authpool_on(home, "client", "add", "ci", *scopes, *limits)
    assert (added.status, added.err.startswith("Added client ci: ")) == (0, True)
    assert re.fullmatch(PATTERN, added.out.rstrip("\n"))
    listed = await authpool_on(home, "client", "list")
    assert listed.out.split()[:3] == ["CLIENT", "STATE", "POOLS"]
    assert "4 at a time, 0.5 a second" in listed.out
    for what in (listed.out, listed.err, (home / "clients" / "ci.toml").read_text()):
        assert added.out.split("_")[2] not in what
    rotated = await authpool_on(home, "client", "rotate", "ci", "--overlap", "15m", "--json")
    answer = json.loads(rotated.out)
    assert (answer["ok"], answer["client"], rotated.err) == (True, "ci", "")
    assert parse_key(answer["key"])
    (row,) = json.loads((await authpool_on(home, "client", "list", "--json")).out)
    assert (row["name"], row["keys"], row["hosts"], row["requests"]) == ("ci", 2, ["keys.example", "*.keys.example"], 0)
    removed = await authpool_on(home, "client", "remove", "ci")
    assert (removed.status, removed.out.startswith("Removed client ci")) == (0, True)
    again = await authpool_on(home, "client", "remove", "ci", "--json")
    assert (again.status, json.loads(again.out)["ok"]) == (1, False)
    history = await authpool_on(home, "history", "client:ci")
    assert [line.split("  ")[1] for line in history.out.splitlines()[1:]] == [
        "client added",
        "client rotated",
        "client removed",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    (
        (("add", "ci", "--expires", "3"), 2, "is no time such as"),
        (("add", "ci", "--expires", "0"), 1, "some time"),
        (("add", "ci", "--expires", "1d", "--for-run", "1h"), 1, "one of them"),
        (("add", "ci", "--max-in-flight", "0"), 2, "max-in-flight"),
        (("add", "ci", "--requests-per-second", "-1"), 2, "requests-per-second"),
        (("add", "ci", "--requests-per-second", "nan"), 1, "a number above 0"),
        (("add",), 2, "NAME"),
        (("rotate", "ci", "--leaked", "--overlap", "1h"), 1, "no overlap"),
        (("rotate", "nobody"), 1, "no client nobody"),
    ),
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    """Exit status 2 for what was misspelt, 1 for what is refused; nothing is made."""
    home = make_home(tmp_path, pools={})
    result = CliRunner().invoke(cli, ["--home", str(home), "client", *arguments])
    assert (result.exit_code, words in result.output) == (status, True), result.output
    assert not list((home / "clients").glob("*.toml"))


def test_a_key_for_one_job(tmp_path: Path) -> None:
    """It ends by itself."""
    home = make_home(tmp_path, pools={})
    result = CliRunner().invoke(cli, ["--home", str(home), "client", "add", "job", "--for-run", "1h", "--json"])
    assert json.loads(result.output)["expires_at"] is not None
    assert "for_run = true" in (home / "clients" / "job.toml").read_text()
