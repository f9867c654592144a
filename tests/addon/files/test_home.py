"""Where the home is, and what may lie in it."""

import os
from pathlib import Path

import pytest

from authpool.cli.scaffold import LOADER
from authpool.errors import RefusedError
from authpool.files.home import home_folder, home_of_loader, read_secret_file, secure_folder


@pytest.mark.parametrize(
    ("option", "environ", "home"),
    (
        ("/option", {"AUTHPOOL_HOME": "/environ", "HOME": "/users/me"}, "/option"),
        (None, {"AUTHPOOL_HOME": "/environ", "HOME": "/users/me"}, "/environ"),
        ("", {"AUTHPOOL_HOME": "", "HOME": "/users/me"}, "/users/me/.authpool"),
        (None, {"HOME": "/users/me"}, "/users/me/.authpool"),
        ("~/pools", {"HOME": "/users/me"}, "/users/me/pools"),
        ("/a/../b", {}, "/b"),
    ),
)
def test_the_option_wins_then_the_environment(option: str | None, environ: dict[str, str], home: str) -> None:
    """`authpool_home`, else AUTHPOOL_HOME, else ~/.authpool; empty counts as not given."""
    assert home_folder(option, environ) == Path(home)


def test_a_script_is_for_the_home_it_lies_in(tmp_path: Path) -> None:
    """A copy in a home; but not the one of the package, which `authpool mitmdump` loads for any home."""
    assert home_of_loader(str(tmp_path / "addon")) == str(tmp_path)
    assert home_of_loader(str(LOADER)) == ""
    assert home_of_loader(None) == ""


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working directory does not move the home."""
    monkeypatch.chdir(tmp_path)
    assert home_folder("here", {}) == tmp_path / "here"


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    """Created 0700, its parents too where they are missing; a second time nothing happens."""
    folder = tmp_path / "deep" / "home"
    secure_folder(folder)
    secure_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", (0o755, 0o750, 0o770, 0o701, 0o720))
def test_a_folder_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the folder and the command that puts it right."""
    tmp_path.chmod(mode)
    with pytest.raises(RefusedError, match=f"chmod 700 '{tmp_path}'"):
        secure_folder(tmp_path)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """By name, and it is left alone."""
    (tmp_path / "home").write_text("mine")
    with pytest.raises(RefusedError, match="home is not a folder"):
        secure_folder(tmp_path / "home")
    assert (tmp_path / "home").read_text() == "mine"


def secret_file(path: Path, content: bytes = b"s3cret\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", (0o600, 0o400, 0o700))
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    """As it is, line end included."""
    assert read_secret_file(secret_file(tmp_path / "token", mode=mode)) == "s3cret\n"


@pytest.mark.parametrize("mode", (0o644, 0o640, 0o604, 0o620, 0o610))
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the file and the command, and not the secret."""
    path = secret_file(tmp_path / "token", mode=mode)
    with pytest.raises(RefusedError, match=f"chmod 600 '{path}'") as caught:
        read_secret_file(path)
    assert "s3cret" not in str(caught.value)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    """Even to a private file: what it points to may change hands."""
    (tmp_path / "link").symlink_to(secret_file(tmp_path / "token"))
    with pytest.raises(RefusedError, match="link is a symbolic link"):
        read_secret_file(tmp_path / "link")


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """A FIFO that nobody writes to does not hang the reader."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(RefusedError, match="pipe is not a regular file"):
        read_secret_file(tmp_path / "pipe")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """By name."""
    with pytest.raises(RefusedError, match=f"{tmp_path} "):
        read_secret_file(tmp_path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """By name, in the system's words."""
    with pytest.raises(RefusedError, match=r"nowhere can't be read: No such file"):
        read_secret_file(tmp_path / "nowhere")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """1 MiB is read, one byte more is not."""
    assert len(read_secret_file(secret_file(tmp_path / "large", b"x" * (1 << 20)))) == 1 << 20
    with pytest.raises(RefusedError, match="larger than 1 MiB"):
        read_secret_file(secret_file(tmp_path / "huge", b"x" * ((1 << 20) + 1)))


def test_what_is_not_text_is_refused_unseen(tmp_path: Path) -> None:
    """The bytes appear neither in the message nor in the chain of causes."""
    with pytest.raises(RefusedError, match="not UTF-8") as caught:
        read_secret_file(secret_file(tmp_path / "token", b"s3cret\xff"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
