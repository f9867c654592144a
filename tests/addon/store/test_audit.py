"""The audit trail: what is written, by whom, into which file, and what never is."""

import fcntl
import json
import logging
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from authpool.accounts.account import Account, Token, fingerprint
from authpool.accounts.events import AccountEvent, EventKind
from authpool.errors import RefusedError, StoreUnavailableError
from authpool.store.audit import Entry, Process, entry_of
from authpool.store.folder.trail_files import KEPT, NAME, TrailFiles, read_trail, rotated_path
from authpool.verbs.history import history, history_cells
from support import audit_process
from support.answers import JSON
from support.clock import FakeClock
from support.operator import Desk, open_desk
from support.trail import AuditTrail

ALICE = "google/alice@example.com"
TOKEN = Token(access_token="the-access-token", refresh_token="the-refresh-token")
ACCOUNT = Account(pool="google", name="alice@example.com", generation=7, token=TOKEN)
ME = Process(pid=os.getpid(), kind="gateway")

type Start = Callable[..., subprocess.Popen[str]]


def event(kind: EventKind = "paused", reason: str = "", account: Account = ACCOUNT) -> AccountEvent:
    return AccountEvent(kind=kind, account=account, reason=reason)


def events_of(home: Path) -> list[str]:
    return [entry.event for entry in read_trail(home)]


@pytest.fixture
def trail(tmp_path: Path, clock: FakeClock) -> AuditTrail:
    return AuditTrail(tmp_path, clock, "gateway")


@pytest.fixture
def small(tmp_path: Path, clock: FakeClock) -> AuditTrail:
    """A trail whose files are full after a few lines."""
    return AuditTrail(tmp_path, clock, "gateway", rotate_bytes=500)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that are gone when the test is over."""
    running: list[subprocess.Popen[str]] = []

    def start(verb: str, home: Path, name: str, times: int, rotate_bytes: int) -> subprocess.Popen[str]:
        running.append(audit_process.start(verb, home, name, times, rotate_bytes))
        return running[-1]

    yield start
    for process in running:
        with process:
            process.kill()


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reason", "word"),
    (
        ("added", "", "added"),
        ("readded", "", "re-added"),
        ("rotated", "", "refreshed"),
        ("disabled", "invalid_grant: revoked", "disabled"),
        ("disabled", "rotation_lost: an answer never reached us", "lost"),
        ("enabled", "", "enabled"),
        ("paused", "manual", "paused"),
        ("resumed", "", "resumed"),
        ("removed", "", "removed"),
    ),
)
def test_each_change_has_its_word(trail: AuditTrail, tmp_path: Path, kind: EventKind, reason: str, word: str) -> None:
    """One JSON object a line, with time, reason, process, fingerprint and generation."""
    trail.record(event(kind, reason))
    written = (tmp_path / NAME).read_text()
    assert written.endswith("\n")
    assert json.loads(written) == {
        "time": int(FakeClock().time()),
        "event": word,
        "account": ALICE,
        "reason": reason,
        "process": {"pid": os.getpid(), "kind": "gateway"},
        "fingerprint": fingerprint("the-refresh-token"),
        "generation": 7,
    }


def test_a_refresh_without_rotation_is_no_change(trail: AuditTrail, tmp_path: Path) -> None:
    """A new access token alone is not written down: it would drown what matters."""
    trail.record(event("refreshed"))
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    ("token", "told"),
    (
        (TOKEN, fingerprint("the-refresh-token")),
        (Token(access_token="only"), fingerprint("only")),
        (Token(), None),
    ),
)
def test_the_fingerprint_is_of_what_the_account_lives_on(token: Token, told: str | None) -> None:
    """The refresh token's, else the access token's, else none."""
    account = Account(pool="p", name="a", token=token)
    entry = entry_of(event(account=account), now=1.5, process=ME)
    assert entry is not None
    assert (entry.fingerprint, entry.time) == (told, 1)


def test_the_file_is_the_owners_alone(trail: AuditTrail, tmp_path: Path) -> None:
    """Mode 0600 from its first moment, whatever the umask says."""
    before = os.umask(0)
    try:
        trail.record(event())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


async def test_the_life_of_an_account(tmp_path: Path) -> None:
    """Every verb and every verdict leaves its line, in order; no secret and no answer of the provider is in any."""
    async with open_desk(tmp_path) as desk:
        await _live(desk)
        assert events_of(desk.home) == [
            *("added", "refreshed", "paused", "resumed", "disabled", "re-added", "refreshed", "removed", "removed")
        ]
        entries = read_trail(desk.home)
        assert entries[2].reason == "manual"
        assert entries[4].reason.startswith("invalid_grant")
        assert entries[0].fingerprint != entries[1].fingerprint == entries[2].fingerprint
        assert [entry.generation for entry in entries[:2]] == [1, 2]
        text = (desk.home / NAME).read_text()
        tokens = {post for post in desk.posts if post}
        assert len(tokens) > 3
        assert not [token for token in tokens if token in text]
        assert "the-client-secret" not in text
        assert "access_token" not in text


async def _live(desk: Desk) -> None:
    operations = desk.operations
    await operations.add("google", desk.signed_in("alice@example.com"))
    await operations.refresh(ALICE)
    await operations.pause(ALICE)
    await operations.pause(ALICE)  # is paused already: no change
    await operations.resume(ALICE)
    desk.token_endpoint.script = lambda number, form: JSON(
        400, {"error": "invalid_grant", "error_description": f"{form['refresh_token']} is revoked"}
    )
    with pytest.raises(RefusedError):
        await operations.refresh(ALICE)
    desk.token_endpoint.script = desk.provider
    await operations.add("google", desk.signed_in("alice@example.com"))
    await operations.refresh(ALICE)
    await operations.remove(ALICE)
    desk.write("google/bob").write_text("name = 7")
    await operations.remove("google/bob")


async def test_the_trail_knows_before_the_plugins(tmp_path: Path) -> None:
    """A plugin that is told of a change finds it in the trail, and one that fails does not keep it out."""
    plugin = (
        "import json, pathlib\n"
        "from authpool import hookimpl\n"
        "@hookimpl\n"
        "def authpool_account_event(event):\n"
        "    home = pathlib.Path(__file__).parents[1]\n"
        "    (home / 'seen').write_text((home / 'audit.jsonl').read_text())\n"
        "    raise RuntimeError('of the test')\n"
    )
    async with open_desk(tmp_path, plugin=plugin) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
    assert json.loads((desk.home / "seen").read_text())["event"] == "added"  # by the end plugins have heard all


# --- a trail that can't be written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("obstacle", ("link", "folder", "fifo", "gone"))
def test_a_failing_write_is_logged_once_and_harms_nothing(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    """What is in the way is not followed, waited for or overwritten; when it is gone, the trail goes on."""
    home = tmp_path / "home"
    home.mkdir()
    match obstacle:
        case "link":
            (home / NAME).symlink_to(tmp_path / "elsewhere")
        case "folder":
            (home / NAME).mkdir()
        case "fifo":
            os.mkfifo(home / NAME)
        case _:
            home.rmdir()
    trail = AuditTrail(home, clock, "gateway")
    for _ in range(3):
        trail.record(event())
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1
    assert str(home / NAME) in told[0].getMessage()
    assert not (tmp_path / "elsewhere").exists()
    _clear(home, obstacle)
    trail.record(event())
    assert events_of(home) == ["paused"] * 4  # what could not be written is written first


def _clear(home: Path, obstacle: str) -> None:
    if obstacle == "gone":
        home.mkdir()
    elif obstacle == "folder":
        (home / NAME).rmdir()
    else:
        (home / NAME).unlink()


def test_a_line_that_was_cut_spoils_no_other(tmp_path: Path, clock: FakeClock) -> None:
    """The next process begins a new line, and what is no entry is passed over."""
    AuditTrail(tmp_path, clock, "gateway").record(event("added"))
    trail = AuditTrail(tmp_path, clock, "gateway")
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"time": 1, "eve')
    trail.record(event("paused"))
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'[]\n{}\nnull\n{"time": "x"}\n\xff\n' + b"[" * 100_000 + b"\n")
    trail.record(event("resumed"))
    assert events_of(tmp_path) == ["added", "paused", "resumed"]


def test_a_disk_that_fills_up_in_the_middle_of_a_line(tmp_path: Path, start: Start) -> None:
    """That is told in the log, once; when there is room again, what was cut and what came after it is written whole."""
    process = start("fill", tmp_path, "a", 10, 1 << 20)
    assert process.communicate()[0].splitlines()[-1] == "told 1"
    reasons = [int(entry.reason) for entry in read_trail(tmp_path)]
    assert reasons == [*range(9), 10, 11, 12, 99]


# --- rotation and several processes ----------------------------------------------------------------------------------


def test_rotation_keeps_the_order_and_the_last_files(small: AuditTrail, tmp_path: Path) -> None:
    """A full file becomes .1, what was .1 becomes .2, and so on to .3; no file is longer than its limit."""
    for number in range(40):
        small.record(event(reason=str(number)))
    reasons = [int(entry.reason) for entry in read_trail(tmp_path)]
    assert reasons == list(range(reasons[0], 40))
    assert 4 < len(reasons) < 40
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [NAME, *(f"{NAME}.{number}" for number in range(1, KEPT + 1))]
    assert all(path.stat().st_size <= 500 for path in tmp_path.iterdir())


def test_a_gap_between_the_files_costs_no_history(small: AuditTrail, tmp_path: Path) -> None:
    """A crash between two renames leaves one: it is filled before the oldest file is given up."""
    while not rotated_path(tmp_path / NAME, KEPT).exists():
        small.record(event())
    oldest = rotated_path(tmp_path / NAME, KEPT).read_bytes()
    rotated_path(tmp_path / NAME, 1).unlink()
    while not rotated_path(tmp_path / NAME, 1).exists():
        small.record(event())
    assert rotated_path(tmp_path / NAME, KEPT).read_bytes() == oldest


def test_a_file_that_another_process_renames_still_takes_lines(small: AuditTrail, tmp_path: Path) -> None:
    """While somebody holds the lock nobody waits: the line goes to the end of the full file."""
    small.record(event())
    with (tmp_path / NAME).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for _ in range(9):
            small.record(event())
        assert not rotated_path(tmp_path / NAME, 1).exists()
    small.record(event())
    assert rotated_path(tmp_path / NAME, 1).exists()
    assert len(read_trail(tmp_path)) == 11


def test_who_comes_late_renames_nothing(small: AuditTrail, tmp_path: Path) -> None:
    """A process that found the file full just before another renamed it leaves the new one where it is."""
    small.record(event())
    with (tmp_path / NAME).open("rb") as full:
        while not rotated_path(tmp_path / NAME, 1).exists():
            small.record(event())
        assert small.files._rotate(full.fileno())
    assert (tmp_path / NAME).exists()
    assert not rotated_path(tmp_path / NAME, 2).exists()


@pytest.mark.parametrize("rotate_bytes", (1 << 20, 110_000))
def test_four_processes_lose_and_mix_no_line(tmp_path: Path, start: Start, rotate_bytes: int) -> None:
    """Each line of each process is there once, whole, and in its process's order; also while files are renamed."""
    names, times = ("a", "b", "c", "d"), 400
    processes = [start("append", tmp_path, name, times, rotate_bytes) for name in names]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all at once
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(30) for process in processes] == [0] * 4
    entries = read_trail(tmp_path)
    told = {name: [int(entry.reason) for entry in entries if entry.account == f"p/{name}"] for name in names}
    assert told == {name: list(range(times)) for name in names}
    assert len({entry.process.pid for entry in entries}) == 4
    lines = b"".join(path.read_bytes() for path in tmp_path.iterdir()).splitlines()
    assert len(lines) == len(entries)
    assert rotated_path(tmp_path / NAME, 1).exists() == (rotate_bytes < 1 << 20)


# --- history ---------------------------------------------------------------------------------------------------------


def test_history_of_all_and_of_one(trail: AuditTrail, tmp_path: Path) -> None:
    """Newest last; an account is found however it is spelt, and one that is gone has a history too."""
    bob = Account(pool="google", name="bob")
    trail.record(event("added"))
    trail.record(event("added", account=bob))
    trail.record(event("removed"))
    assert [entry.event for entry in history(read_trail(tmp_path))] == ["added", "added", "removed"]
    assert [entry.event for entry in history(read_trail(tmp_path), "google/Alice@Example.com")] == ["added", "removed"]
    assert history(read_trail(tmp_path), "google/nobody") == []
    assert [entry.event for entry in history(TrailFiles(tmp_path).newest(2), ALICE)] == ["removed"]
    with pytest.raises(RefusedError, match="POOL/NAME"):
        history(read_trail(tmp_path), "alice")


def test_history_where_there_is_none_or_it_can_not_be_read(tmp_path: Path) -> None:
    """No file is no history; a link in its place is refused by name."""
    assert TrailFiles(tmp_path / "nowhere").newest(None) == []
    (tmp_path / NAME).symlink_to("/etc/hosts")
    with pytest.raises(StoreUnavailableError, match=NAME):
        TrailFiles(tmp_path).newest(None)


def test_a_damaged_account_name_is_no_trouble(tmp_path: Path) -> None:
    """An entry edited by hand is shown, and belongs to nobody."""
    entry = Entry(time=0, event="added", account="nobody", reason="", process=ME, fingerprint=None, generation=0)
    (tmp_path / NAME).write_text(json.dumps(asdict(entry)) + "\n")
    assert history(read_trail(tmp_path), ALICE) == []
    assert [history_cells(shown)[2] for shown in history(read_trail(tmp_path))] == ["nobody"]
