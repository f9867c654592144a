"""Which gateways run on a home: told by a lock that the kernel keeps, not by a number."""

import json
import os
from pathlib import Path

import pytest

from authpool.gateway.presence import FOLDER, Presence, Reloaded, neighbours
from authpool.store.folder.reload_marker import ask_for_reload, last_request


def test_a_gateway_is_there_from_its_first_word_to_its_end(tmp_path: Path) -> None:
    """With what it said last; private, and gone without a trace."""
    presence = Presence(tmp_path)
    assert neighbours(tmp_path) == []
    presence.tell(Reloaded(request=1))
    presence.tell(Reloaded(request=2, error="no"))
    (one,) = neighbours(tmp_path)
    assert (one.pid, one.reloaded) == (os.getpid(), Reloaded(request=2, error="no"))
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / FOLDER).iterdir()} == {0o600}
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
    presence.end()
    assert neighbours(tmp_path) == []
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_what_a_crash_left_behind_is_no_gateway(tmp_path: Path) -> None:
    """Though a process of that number runs: its lock is nobody's. It is cleared away."""
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o700)
    for name in (f"{os.getpid()}-00000000", "1-00000000"):
        (folder / f"{name}.json").write_text(json.dumps({"pid": os.getpid(), "request": 9, "error": ""}))
        (folder / f"{name}.lock").touch(mode=0o600)
    (folder / "7-0.json").touch()
    assert neighbours(tmp_path) == []
    assert list(folder.iterdir()) == []


def test_several_gateways_of_one_process_number(tmp_path: Path) -> None:
    """Two containers on one home both have a process 7."""
    first, second = Presence(tmp_path), Presence(tmp_path)
    first.tell(Reloaded(request=1))
    second.tell(Reloaded(request=2))
    assert sorted(one.reloaded.request for one in neighbours(tmp_path) if one.reloaded) == [1, 2]
    first.end()
    assert [one.reloaded for one in neighbours(tmp_path)] == [Reloaded(request=2)]
    second.end()


@pytest.mark.parametrize("content", (b"", b"[]", b"{}", b'{"request": "x", "error": 1}', b"\xff"))
def test_a_file_that_can_t_be_read_is_a_gateway_that_said_nothing(tmp_path: Path, content: bytes) -> None:
    """It runs, for its lock is held."""
    presence = Presence(tmp_path)
    presence.tell(Reloaded(request=1))
    (file,) = (tmp_path / FOLDER).glob("*.json")
    file.write_bytes(content)
    (one,) = neighbours(tmp_path)
    assert (one.pid, one.reloaded) == (os.getpid(), None)
    presence.end()


def test_a_home_that_can_t_be_written_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And harms nothing else."""
    (tmp_path / FOLDER).write_text("a file")
    presence = Presence(tmp_path)
    for request in range(3):
        presence.tell(Reloaded(request=request))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    presence.end()


def test_requests_are_numbered_upwards(tmp_path: Path) -> None:
    """Whatever the clock does; a marker that was touched by hand asks as well."""
    assert last_request(tmp_path) == 0
    first = ask_for_reload(tmp_path)
    assert last_request(tmp_path) == first
    (tmp_path / ".reload").write_text(str(first + 10**18))
    assert ask_for_reload(tmp_path) == first + 10**18 + 1
    (tmp_path / ".reload").write_text("")
    touched = last_request(tmp_path)
    assert touched == (tmp_path / ".reload").stat().st_mtime_ns
    assert ask_for_reload(tmp_path) > touched


def test_nothing_is_told_after_the_end(tmp_path: Path) -> None:
    """A reload that was under way has no gateway to speak for."""
    presence = Presence(tmp_path)
    presence.tell(Reloaded(request=1))
    presence.end()
    presence.tell(Reloaded(request=2))
    assert neighbours(tmp_path) == []


def test_a_start_clears_away_what_was_left(tmp_path: Path) -> None:
    """A gateway that is killed over and over fills no folder."""
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o700)
    (folder / "7-0.json").touch()
    (folder / "7-0.lock").touch()
    presence = Presence(tmp_path)
    presence.tell(Reloaded(request=1))
    assert len(list(folder.iterdir())) == 2
    presence.end()
