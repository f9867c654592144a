"""Refresh tokens that are in no account yet are kept where the next `add` finds them."""

import asyncio
import errno
import json
import tempfile
from pathlib import Path

import pytest

from authpool.accounts.account import fingerprint
from authpool.errors import RefusedError
from authpool.files.atomic_file import FileOperations
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.sources import Credential, read_source

FRESH = Credential(refresh_token="the-new-one", access_token="a", name="claimed@example.com")


class FailingUnder(FileOperations):
    """System calls that find no room below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, path: Path) -> int:
        if path.is_relative_to(self.folder):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().create(path)


def test_kept_token_is_private_and_a_source_of_its_own(tmp_path: Path) -> None:
    """Mode 0600 in a folder 0700, named by pool and fingerprint, readable as ``@FILE``, without the claimed name."""
    path = RescuedTokens(tmp_path, run=asyncio.to_thread).keep("google", FRESH)
    assert path is not None
    assert path.parent == tmp_path / "unclaimed"
    assert path.name == f"google-{fingerprint('the-new-one')}.json"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    again = read_source(f"@{path}", environ={})
    assert (again.refresh_token, again.name, again.path) == ("the-new-one", None, path)


def test_token_goes_elsewhere_when_the_home_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full home is no reason to lose it: the machine's temporary files take it, as private, and it can be dropped."""
    home, elsewhere = tmp_path / "home", tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    unclaimed = RescuedTokens(home, run=asyncio.to_thread, files=FailingUnder(home))
    path = unclaimed.keep("google", FRESH)
    assert path is not None
    assert path.is_relative_to(elsewhere)
    assert json.loads(path.read_text())["refresh_token"] == "the-new-one"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "No space left" in caplog.text
    unclaimed.drop(path)
    assert list(elsewhere.iterdir()) == []


def test_no_room_anywhere_is_told_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing takes it the caller must know, and nothing is left behind."""
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    assert RescuedTokens(tmp_path, run=asyncio.to_thread, files=FailingUnder(Path("/"))).keep("google", FRESH) is None
    assert list(elsewhere.iterdir()) == []
    assert "the-new-one" not in caplog.text


def test_only_what_was_kept_here_is_dropped(tmp_path: Path) -> None:
    """An operator's own file is left alone, however it is named; a path that comes round to the folder is ours."""
    unclaimed = RescuedTokens(tmp_path, run=asyncio.to_thread)
    kept = unclaimed.keep("google", FRESH)
    assert kept is not None
    own = tmp_path / "google-01234567.json"
    own.touch()
    unclaimed.drop(own)
    unclaimed.drop(None)
    assert own.exists()
    assert kept.exists()
    unclaimed.drop(tmp_path / "accounts" / ".." / "unclaimed" / kept.name)
    assert not kept.exists()
    unclaimed.drop(kept)  # gone already: nothing happens


async def test_one_at_a_time(tmp_path: Path) -> None:
    """Two adds on one home take turns."""
    inside = 0
    most = 0

    async def add() -> None:
        nonlocal inside, most
        async with RescuedTokens(tmp_path, run=asyncio.to_thread).alone():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(add() for _ in range(4)))
    assert most == 1


async def test_home_where_nothing_can_be_kept_is_refused_first(tmp_path: Path) -> None:
    """A file in the place of the folder is found before any token is spent."""
    (tmp_path / "unclaimed").touch()
    with pytest.raises(RefusedError, match="not a folder"):
        async with RescuedTokens(tmp_path, run=asyncio.to_thread).alone():
            pass
