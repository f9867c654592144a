"""`authpool init`: a home to start from."""

import re
from pathlib import Path

import pytest

from authpool.cli.scaffold import CONFIG_TEMPLATE, LOADER, create_home
from authpool.config import load_config
from authpool.errors import RefusedError


def modes(home: Path) -> dict[str, int]:
    return {str(path.relative_to(home)): path.stat().st_mode & 0o777 for path in (home, *home.rglob("*"))}


def test_home_is_complete_and_private(tmp_path: Path) -> None:
    """Folders 0700, files 0600, and all that the gateway and `mitmdump -s addon` need."""
    home = tmp_path / "deep" / "home"
    items = create_home(home)
    assert all(item.created for item in items)
    assert modes(home) == {
        ".": 0o700,
        "accounts": 0o700,
        "clients": 0o700,
        "plugins": 0o700,
        "authpool.toml": 0o600,
        "addon": 0o600,
    }
    assert (home / "addon").read_bytes() == LOADER.read_bytes()


def test_doing_it_twice_changes_nothing(tmp_path: Path) -> None:
    """What is there is kept, down to the inode, whatever stands in it."""
    create_home(tmp_path / "home")
    for name in ("authpool.toml", "addon"):
        (tmp_path / "home" / name).write_text("# mine\n")
    before = [path.stat() for path in sorted((tmp_path / "home").rglob("*"))]
    assert not any(item.created for item in create_home(tmp_path / "home"))
    assert [path.stat() for path in sorted((tmp_path / "home").rglob("*"))] == before


def test_only_what_is_missing_is_added(tmp_path: Path) -> None:
    """A home with a configuration gets the rest; a link to nowhere counts as there."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "authpool.toml").write_text("# mine\n")
    (home / "addon").symlink_to("nowhere")
    created = [item.path.name for item in create_home(home) if item.created]
    assert created == ["accounts", "clients", "plugins"]
    assert (home / "authpool.toml").read_text() == "# mine\n"


def test_home_that_is_open_to_others_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    """Modes are not changed behind anybody's back."""
    tmp_path.chmod(0o755)
    with pytest.raises(RefusedError, match="chmod 700"):
        create_home(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_configuration_is_valid_as_it_is_and_has_no_pool(tmp_path: Path) -> None:
    """The gateway starts on it, and serves nobody."""
    create_home(tmp_path / "home")
    assert not load_config(tmp_path / "home", {}).pools


def test_examples_are_valid_once_their_marks_are_taken_off(tmp_path: Path) -> None:
    """Each commented example, uncommented, is a pool; all together are a configuration."""
    create_home(tmp_path / "home")
    path = tmp_path / "home" / "authpool.toml"
    path.write_text(re.sub(r"^# (?=\[|\w+ = )", "", path.read_text(), flags=re.MULTILINE))
    (tmp_path / "home" / "service.secret").touch(mode=0o600)
    (tmp_path / "home" / "service.secret").write_text("s")
    config = load_config(tmp_path / "home", {"GOOGLE_CLIENT_SECRET": "s"})
    assert set(config.pools) == {"google", "company", "service", "keys"}
    assert {pool.type for pool in config.pools.values()} == {"refresh_token", "client_credentials", "static"}


def test_template_tells_the_everyday_command_with_the_home_it_is_in(tmp_path: Path) -> None:
    """The comment can be copied to a shell."""
    create_home(tmp_path / "home")
    assert f"cd {tmp_path / 'home'} && mitmdump -s addon" in (tmp_path / "home" / "authpool.toml").read_text()
    assert "{home}" in CONFIG_TEMPLATE
