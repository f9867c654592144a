"""Which files a PATH stands for, and in which order their accounts come."""

import json
import os
from pathlib import Path

import pytest

from authpool.verbs.import_formats.entry import ImportEntry, Unreadable
from authpool.verbs.import_formats.paths import path_entries


def private(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


def antigravity(folder: Path, *ids: str, index: str | bytes | None = None) -> Path:
    listed = json.dumps({"version": "2.0", "accounts": [{"id": one} for one in ids]}) if index is None else index
    private(folder / "accounts.json", listed)
    for one in ids:
        token = {"refresh_token": f"token-of-{one}"}
        private(folder / "accounts" / f"{one}.json", json.dumps({"id": one, "email": f"{one}@e.com", "token": token}))
    return folder


def names(path: Path) -> list[str | None]:
    return [one.expected for one in path_entries(path) if isinstance(one, ImportEntry)]


def test_antigravity_folder_keeps_the_order_of_its_list(tmp_path: Path) -> None:
    """What the list does not name comes after it; the list itself may be named as well as the folder."""
    folder = antigravity(tmp_path, "z", "a", "m")
    private(folder / "accounts" / "b.json", json.dumps({"email": "b@e.com", "token": {"refresh_token": "b"}}))
    assert names(folder) == names(folder / "accounts.json") == ["z@e.com", "a@e.com", "m@e.com", "b@e.com"]
    assert [one.credential.order for one in path_entries(folder) if isinstance(one, ImportEntry)] == [0, 1, 2, None]


@pytest.mark.parametrize(
    "index", ("", "{", b"\xef\xbb\xbf\x00\x00[]", '{"accounts": 7}', '{"accounts": [7, {"id": "../x"}]}')
)
def test_damaged_list_hides_no_account(tmp_path: Path, index: str | bytes) -> None:
    """The account files decide."""
    assert names(antigravity(tmp_path, "b", "a", index=index)) == ["a@e.com", "b@e.com"]


def test_list_with_a_bom_and_nuls_is_read(tmp_path: Path) -> None:
    """As Antigravity Manager leaves it behind."""
    listed = json.dumps({"accounts": [{"id": "b"}, {"id": "a"}]}).encode()
    assert names(antigravity(tmp_path, "b", "a", index=b"\xef\xbb\xbf" + listed + b"\x00\x00")) == [
        "b@e.com",
        "a@e.com",
    ]


def test_listed_account_without_a_file_is_told(tmp_path: Path) -> None:
    """It is missing, and somebody should know."""
    folder = antigravity(tmp_path, "a", "gone")
    (folder / "accounts" / "gone.json").unlink()
    (missing,) = [one for one in path_entries(folder) if isinstance(one, Unreadable)]
    assert "no such file" in missing.problem


def test_folder_of_files_is_read_by_name(tmp_path: Path) -> None:
    """CLIProxyAPI's folder, say; what is hidden, or clearly something else, is left alone."""
    private(tmp_path / "codex-b.json", json.dumps({"type": "codex", "email": "b@e.com", "refresh_token": "b"}))
    private(tmp_path / "claude-a.json", json.dumps({"type": "claude", "email": "a@e.com", "refresh_token": "a"}))
    private(tmp_path / "config.yaml", "port: 8317")
    private(tmp_path / ".hidden.json", "{}")
    (tmp_path / "logs").mkdir()
    assert names(tmp_path) == ["a@e.com", "b@e.com"]
    assert len(list(path_entries(tmp_path))) == 2


@pytest.mark.parametrize(
    ("spoil", "problem"),
    (
        (lambda path: path.chmod(0o644), "chmod 600"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/null")), "symbolic link"),
        (lambda path: (path.unlink(), os.mkfifo(path, 0o600)), "not a regular file"),
    ),
    ids=("open to others", "missing", "no text", "link", "fifo"),
)
def test_file_that_is_not_to_be_read_is_told_with_its_remedy(tmp_path: Path, spoil: object, problem: str) -> None:
    """As `add` refuses it; a FIFO does not hang."""
    path = private(tmp_path / "list.csv", "a,b\n")
    assert callable(spoil)
    spoil(path)
    (found,) = path_entries(path)
    assert isinstance(found, Unreadable)
    assert problem in found.problem


def test_list_may_be_longer_than_a_single_credential(tmp_path: Path) -> None:
    """Ten thousand accounts take more than the megabyte that one may have."""
    path = private(tmp_path / "list.csv", "".join(f"u{n}@example.com,{'t' * 120}{n}\n" for n in range(10_000)))
    assert path.stat().st_size > 1 << 20
    assert len(names(path)) == 10_000
