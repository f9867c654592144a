"""The copy of the audit trail outside of a home."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.store.audit import Entry, Process
from authpool.store.folder.store import FolderStore
from authpool.store.folder.trail_files import read_trail
from authpool.store.folder.trail_witness import ID_NAME, TrailWitness, state_folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with nothing in it."""
    (tmp_path / "home" / "accounts").mkdir(parents=True, mode=0o700)
    return tmp_path / "home"


def store_of(home: Path) -> FolderStore:
    """As another process opens it."""
    return FolderStore(home / "accounts", witness=witness_of(home))


def witness_of(home: Path) -> TrailWitness:
    return TrailWitness(home, {"XDG_STATE_HOME": str(home.parent / "state")})


def entry(number: int) -> Entry:
    return Entry(
        time=number,
        event="refreshed",
        account="google/alice",
        reason="",
        process=Process(pid=1, kind="gateway"),
        fingerprint=f"{number:08x}",
        generation=number,
        replaced=f"{number - 1:08x}",
    )


async def times(store: FolderStore) -> list[int]:
    entries, _ = await store.entries_since(None)
    return [entry.time for entry in entries]


async def test_what_a_restored_home_lost_is_told_in_order(home: Path) -> None:
    """What it gained on another machine meanwhile comes after that."""
    store = store_of(home)
    store.append(entry(1))
    shutil.copytree(home, home.parent / "backup")
    store.append(entry(2))
    store.append(entry(3))
    shutil.rmtree(home)
    shutil.copytree(home.parent / "backup", home)
    FolderStore(home / "accounts").append(entry(4))
    assert await times(store_of(home)) == [1, 2, 3, 4]
    assert [entry.time for entry in read_trail(home)] == [1, 4]


async def test_what_the_home_has_kept_longer_stays_before_what_came_later(home: Path) -> None:
    """Home and copy are rotated at different lines; an older entry after newer ones would make a spent token good."""
    store = store_of(home)
    for number in range(1, 5):
        store.append(entry(number))
    copy = next((home.parent / "state").rglob("audit.jsonl"))
    copy.write_bytes(b"".join(entry(number).line() for number in (2, 3, 4, 5)))
    (home / "audit.jsonl").write_bytes(b"".join(entry(number).line() for number in (1, 2, 4)))
    assert await times(store_of(home)) == [1, 2, 3, 4, 5]


async def test_what_the_home_got_late_is_told_once_and_in_its_time(home: Path) -> None:
    """The copy could be written when the home's own trail could not."""
    store = store_of(home)
    for number in range(1, 5):
        store.append(entry(number))
    late = [replace(entry(2), late=True), replace(entry(5), late=True)]
    (home / "audit.jsonl").write_bytes(b"".join(one.line() for one in (entry(1), entry(3), *late)))
    told, _ = await store_of(home).entries_since(None)
    assert [(one.time, one.late) for one in told] == [(1, False), (2, False), (3, False), (4, False), (5, True)]


class Line(bytes):
    """A line that counts how often it is looked at."""

    looks = 0

    def __hash__(self) -> int:
        Line.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Line.looks += 1
        return super().__eq__(other)


def test_each_line_is_looked_at_a_few_times_however_many_there_are(home: Path) -> None:
    """Half of the home's lines are not in the copy, and half of the copy's not in the home."""
    count = 100_000
    witness = witness_of(home)
    witness.append(entry(0))
    copy = next((home.parent / "state").rglob("audit.jsonl"))
    copy.write_bytes(b"".join(b"%d\n" % number for number in range(0, count, 2)))
    lines: list[bytes] = [Line(b"%d" % number) for number in range(0, count, 4)]
    lines += [Line(b"%d of the home" % number) for number in range(count // 2)]
    Line.looks = 0
    completed = witness.complete(lines)
    assert len(set(completed)) == len(completed) == count
    looks = Line.looks - 2 * count  # by `set` here
    assert 0 < looks <= 8 * len(lines)


async def test_a_home_that_is_made_anew_knows_nothing_of_the_one_before(home: Path) -> None:
    """Although it lies in the same place."""
    store_of(home).append(entry(1))
    shutil.rmtree(home)
    (home / "accounts").mkdir(parents=True, mode=0o700)
    store_of(home).append(entry(2))
    assert await times(store_of(home)) == [2]


async def test_it_is_as_private_as_the_home(home: Path) -> None:
    """Folders 0700, files 0600."""
    store_of(home).append(entry(1))
    state = home.parent / "state"
    made = list(state.rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in [*made, home / ID_NAME] if path.is_file()} == {0o600}


@pytest.mark.parametrize("trouble", ("no state", "state is a file", "id is a link", "id is something else"))
async def test_nothing_stops_where_it_can_not_be_kept(home: Path, trouble: str) -> None:
    """The home's own trail is what counts then."""
    environ = {"XDG_STATE_HOME": str(home.parent / "state")}
    match trouble:
        case "no state":
            environ.clear()
        case "state is a file":
            (home.parent / "state").touch()
        case "id is a link":
            (home / ID_NAME).symlink_to(home.parent / "elsewhere")
        case _:
            (home / ID_NAME).write_text("../../x\n")
    store = FolderStore(home / "accounts", witness=TrailWitness(home, environ))
    store.append(entry(1))
    assert await times(store) == [1]
    assert not (home.parent / "elsewhere").exists()


def test_many_processes_agree_on_the_id(home: Path) -> None:
    """Of two that wrote one at the same moment, the first counts for both."""
    witnesses = [witness_of(home) for _ in range(2)]
    (home / ID_NAME).touch(mode=0o600)
    (home / ID_NAME).write_text("a" * 32 + "\n" + "b" * 32 + "\n")
    for witness in witnesses:
        witness.append(entry(1))
    assert [path.name for path in (home.parent / "state" / "authpool" / "homes").iterdir()] == ["a" * 32]


@pytest.mark.parametrize(
    ("environ", "expected"),
    (
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, Path("/s")),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, Path("/h/.local/state")),
        ({"HOME": "/h"}, Path("/h/.local/state")),
        ({}, None),
    ),
)
def test_where_a_user_keeps_state(home: Path, environ: dict[str, str], expected: Path | None) -> None:
    """As the XDG Base Directory Specification says."""
    assert state_folder(home, environ) == expected


def test_where_the_state_of_a_home_is_that_is_not_there_yet(tmp_path: Path) -> None:
    """Nobody can tell whose it will be."""
    assert state_folder(tmp_path / "none", {"HOME": "/h"}) is None
