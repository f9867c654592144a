"""A program is found as the system finds it, and is run only where nobody else could exchange it."""

import errno
import os
from pathlib import Path

import pytest

from authpool.errors import RefusedError
from authpool.files import programs
from authpool.files.programs import find_program

OTHER = 12345


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")


def program(folder: Path, name: str = "tool", mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def find(name: str | Path, home: Path, *path: Path) -> Path:
    return find_program(str(name), {"PATH": ":".join(str(one) for one in path)}, home)


def test_it_is_the_first_of_the_path_that_can_be_run(tmp_path: Path) -> None:
    """The PATH of the program's own environment counts, not this process's."""
    program(tmp_path / "a", mode=0o644)
    second = program(tmp_path / "b")
    program(tmp_path / "c")
    folders = [tmp_path / name for name in ("nothing", "a", "b", "c")]
    assert find("tool", tmp_path, *folders) == second
    assert find(second, tmp_path) == second
    assert find_program("sh", {}, tmp_path).name == "sh"


def test_a_relative_name_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at is what is run, wherever the process goes meanwhile."""
    monkeypatch.chdir(tmp_path)
    path = program(tmp_path)
    assert find("./tool", tmp_path) == path
    tmp_path.chmod(0o777)
    with pytest.raises(RefusedError, match=f"others may write {tmp_path} "):
        find("./tool", tmp_path)


@pytest.mark.parametrize(
    ("name", "number"), (("nothing", errno.ENOENT), ("/nothing", errno.ENOENT), ("a\0b", errno.EINVAL))
)
def test_there_is_none(tmp_path: Path, name: str, number: int) -> None:
    """As the system says it."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at
        find(name, tmp_path, tmp_path)
    assert caught.value.errno == number


def test_one_that_may_not_be_run(tmp_path: Path) -> None:
    """It is there, and is no program."""
    with pytest.raises(PermissionError):
        find(program(tmp_path, mode=0o644), tmp_path)


@pytest.mark.parametrize("mode", (0o777, 0o757, 0o775))
def test_others_may_write_it(tmp_path: Path, mode: int) -> None:
    """The program, or the folder that it lies in, also when the PATH leads there; a private group is nobody else."""
    path = program(tmp_path / "shared")
    for part in (path, path.parent):
        part.chmod(mode)
        os.chown(part, -1, OTHER if os.geteuid() == 0 else -1)
        if os.geteuid() == 0 or mode & 2:
            for name in ("tool", path):
                with pytest.raises(RefusedError, match=rf"others may write {part} \(mode {mode:04o}\).*chmod go-w"):
                    find(name, tmp_path, path.parent)
        part.chmod(0o755)
    assert find("tool", tmp_path, path.parent) == path


@pytest.mark.parametrize("part", ("tool", "folder", "link", "target"))
def test_anothers_part_of_the_way(tmp_path: Path, part: str, as_root: None) -> None:
    """He may exchange it at any moment; the home's owner is trusted."""
    target = program(tmp_path / "real")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "tool").symlink_to(target)
    path = {"tool": target, "folder": folder, "link": folder / "tool", "target": target.parent}[part]
    assert find("tool", tmp_path, folder) == folder / "tool"
    os.chown(path, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(RefusedError, match=f"{path} belongs to user {OTHER}"):
        find("tool", tmp_path, folder)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, OTHER, OTHER)
    assert find("tool", home, folder) == folder / "tool"


def test_a_step_back_is_taken_from_where_a_link_led(tmp_path: Path) -> None:
    """The system goes to the folder of everybody's; the path alone looks as if it never did."""
    shared = tmp_path / "shared"
    path = program(shared)
    (shared / "below").mkdir()
    (tmp_path / "link").symlink_to(shared / "below")
    program(tmp_path)
    shared.chmod(0o777)
    with pytest.raises(RefusedError, match=f"others may write {shared} "):
        find(f"{tmp_path}/link/../{path.name}", tmp_path)


@pytest.mark.parametrize(
    ("gid", "listed", "first", "allowed"),
    (
        (50, [], [("root", 0, 0), ("she", 1000, 1000)], True),
        (50, ["root"], [("root", 0, 50)], True),
        (50, ["she"], [("she", 1000, 1000)], False),
        (50, [], [("she", 1000, 50)], False),
        (1000, [], [], False),
    ),
)
def test_a_folder_of_roots_for_a_group_of_the_system(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    as_root: None,
    gid: int,
    listed: list[str],
    first: list[tuple[str, int, int]],
    *,
    allowed: bool,
) -> None:
    """Debian's /usr/local/bin (root:staff, mode 2775) is all right while nobody is in `staff`."""
    path = program(tmp_path / "bin")
    os.chown(path.parent, 0, gid)
    path.parent.chmod(0o2775)
    group = type("Group", (), {"gr_name": "staff", "gr_mem": listed})
    users = [type("User", (), {"pw_name": name, "pw_uid": uid, "pw_gid": its_group}) for name, uid, its_group in first]
    monkeypatch.setattr(programs.grp, "getgrgid", lambda gid: group)
    monkeypatch.setattr(programs.pwd, "getpwall", lambda: users)
    if allowed:
        assert find("tool", tmp_path, path.parent) == path
    else:
        with pytest.raises(RefusedError, match=f"others may write {path.parent} "):
            find("tool", tmp_path, path.parent)


def test_a_folder_that_is_not_roots_has_no_such_group(tmp_path: Path, as_root: None) -> None:
    """Its owner gave it to a group that he is not alone in."""
    path = program(tmp_path / "bin")
    os.chown(tmp_path, OTHER, -1)
    os.chown(path.parent, OTHER, 50)
    path.parent.chmod(0o775)
    with pytest.raises(RefusedError, match=f"others may write {path.parent} "):
        find("tool", tmp_path, path.parent)
