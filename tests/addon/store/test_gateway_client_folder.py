"""Clients of the gateway in files: what editors and crashes leave, and what others may not read."""

import os
import time
from pathlib import Path

import pytest

from authpool.clients.client import BrokenClient, GatewayClient, IssuedKey
from authpool.clients.usage import Usage
from authpool.errors import BrokenClientError
from authpool.files.atomic_file import FileOperations
from authpool.store.folder.gateway_client_folder import GatewayClientFolder

CI = GatewayClient(name="Ci", keys=(IssuedKey(id="a", sha256="0" * 64),))


@pytest.fixture
def folder(tmp_path: Path) -> GatewayClientFolder:
    folder = GatewayClientFolder(tmp_path, FileOperations())
    assert folder.update("ci", lambda _: CI) == (True, CI)
    assert dict(folder.read_all()) == {"ci": CI}
    return folder


def until(folder: GatewayClientFolder, expected: type | None) -> float:
    """Read until the client is of that kind; answers how long it was what it had been."""
    began = time.monotonic()
    while time.monotonic() < began + 10:
        entry = folder.read_all().get("ci")
        if entry is None if expected is None else isinstance(entry, expected):
            return time.monotonic() - began
        assert entry == CI
        time.sleep(0.01)
    pytest.fail("it never came to that")


def test_files_are_private_and_named_as_the_client(folder: GatewayClientFolder) -> None:
    """In the folder `clients` of the home."""
    path = folder.path / "Ci.toml"
    assert (path.stat().st_mode & 0o777, folder.path.stat().st_mode & 0o777) == (0o600, 0o700)
    assert folder.path.name == "clients"


def test_a_save_that_is_under_way_throws_nobody_out(folder: GatewayClientFolder) -> None:
    """A file that is half written, or gone, for a moment is what it was; one that stays so is broken, or gone."""
    path = folder.path / "Ci.toml"
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    assert folder.read_all()["ci"] == CI
    path.write_bytes(whole)
    assert folder.read_all()["ci"] == CI
    path.write_bytes(whole[:10])
    assert until(folder, BrokenClient) >= 0.1
    path.write_bytes(whole)
    assert folder.read_all()["ci"] == CI
    path.unlink()
    assert until(folder, None) >= 0.1


@pytest.mark.parametrize("what", ("open to others", "a link", "another's name", "not UTF-8"))
def test_what_is_no_private_file_of_the_client_is_broken(folder: GatewayClientFolder, what: str) -> None:
    """With its reason, which a change of it is answered by, too."""
    path = folder.path / "Ci.toml"
    match what:
        case "open to others":
            path.chmod(0o644)
        case "a link":
            path.rename(folder.path / "elsewhere")
            path.symlink_to("elsewhere")
        case "another's name":
            path.write_text(path.read_text().replace('"Ci"', '"root"'))
        case _:
            path.write_bytes(b"\xff")
    until(folder, BrokenClient)
    with pytest.raises(BrokenClientError):
        folder.update("ci", lambda now: now)


def test_an_editors_save_in_between_is_not_undone(folder: GatewayClientFolder) -> None:
    """The change is made once more, of what is there then."""
    path = folder.path / "Ci.toml"
    seen: list[str] = []

    def change(now: GatewayClient | None) -> GatewayClient | None:
        assert now is not None
        if not seen:
            path.write_text(path.read_text().replace("version = 1", 'version = 1\nlabel = "theirs"'))
        seen.append(str(now.extra.get("label")))
        return now.with_removed(1)

    _, stored = folder.update("ci", change)
    assert stored is not None
    assert (stored.extra, stored.removed_at) == ({"label": "theirs"}, 1)
    assert seen == ["None", "theirs"]


def test_an_old_home_without_the_folder_has_no_clients(tmp_path: Path) -> None:
    """Reading makes nothing, and neither does usage; what is known of OAuth clients lies elsewhere."""
    folder = GatewayClientFolder(tmp_path, FileOperations())
    assert dict(folder.read_all()) == dict(folder.usage()) == {}
    folder.count_usage({"ci": Usage(requests=1)})
    assert os.listdir(tmp_path) == []


def test_an_unreadable_count_is_begun_anew(folder: GatewayClientFolder, caplog: pytest.LogCaptureFixture) -> None:
    """It holds nobody up."""
    (folder.path / ".usage.toml").touch(mode=0o600)
    (folder.path / ".usage.toml").write_text("half a fi")
    folder.count_usage({"ci": Usage(requests=1)})
    assert dict(folder.usage()) == {"ci": Usage(requests=1)}
    assert "counted anew" in caplog.text
