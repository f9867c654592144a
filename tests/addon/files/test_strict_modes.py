"""Nobody but root, this user and the home's owner can exchange what a gateway obeys."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from authpool.config import load_config
from authpool.errors import ConfigurationError, RefusedError
from authpool.files import strict_modes
from authpool.files.home import check_home
from authpool.files.strict_modes import check_way, trusted_users
from authpool.plugins.search import find_plugins
from support.home import make_home

POOL = {"token_url": "https://op.example/t", "client_id": "me", "hosts": ["api.example.com"]}
OTHER = 12345


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path, pools={"p": POOL})


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")


@pytest.fixture(autouse=True)
def _groups_anew() -> Iterator[None]:
    strict_modes._is_private_group.cache_clear()
    yield
    strict_modes._is_private_group.cache_clear()


def folder(path: Path, mode: int) -> Path:
    path.mkdir(exist_ok=True)
    path.chmod(mode)
    return path


def test_a_home_of_ones_own_is_relied_on(home: Path) -> None:
    """Below folders that only root and its owner can write, and one that is sticky."""
    check_home(home)
    load_config(home, {})


def test_a_configuration_that_is_a_link_to_a_file_of_everybodys(home: Path, tmp_path: Path) -> None:
    """It is rewritten by another user, and names his plugin."""
    real = tmp_path / "real.toml"
    (home / "authpool.toml").rename(real)
    (home / "authpool.toml").symlink_to(real)
    load_config(home, {})
    real.chmod(0o666)
    with pytest.raises(ConfigurationError, match=f"others may write {real} .*chmod go-w '{real}'"):
        load_config(home, {})


@pytest.mark.parametrize("mode", (0o777, 0o707, 0o770))
def test_a_link_through_a_folder_of_everybodys(home: Path, tmp_path: Path, mode: int) -> None:
    """Whoever can write the folder exchanges the file, or the link that stands there."""
    strict_modes._is_private_group.cache_clear()
    shared, own = folder(tmp_path / "shared", 0o755), folder(tmp_path / "own", 0o700)
    (home / "authpool.toml").rename(own / "real.toml")
    (shared / "link.toml").symlink_to(own / "real.toml")
    (home / "authpool.toml").symlink_to("../shared/link.toml")
    load_config(home, {})
    shared.chmod(mode)
    os.chown(shared, -1, os.getgid() if mode != 0o770 else _somebodys_group())
    with pytest.raises(ConfigurationError, match=f"others may write {shared} "):
        load_config(home, {})


@pytest.mark.parametrize("mode", (0o777, 0o772))
def test_a_home_below_a_folder_of_everybodys(tmp_path: Path, mode: int) -> None:
    """It is moved aside, and another one put there."""
    home = make_home(folder(tmp_path / "shared", 0o755), pools={"p": POOL})
    check_home(home)
    home.parent.chmod(mode)
    with pytest.raises(RefusedError, match=f"others may write {home.parent} .*so that {home} could be exchanged"):
        check_home(home)
    home.parent.chmod(mode | 0o1000)  # nobody can exchange there what is not his, as in /tmp
    check_home(home)


def test_what_another_user_owns(home: Path, tmp_path: Path, as_root: None) -> None:
    """A folder on the way, a file, and a link in a sticky folder: he may exchange them at any moment."""
    sticky = folder(tmp_path / "sticky", 0o1777)
    (sticky / "link.toml").symlink_to(home / "authpool.toml")
    trusted = trusted_users(home)
    check_way(sticky / "link.toml", trusted)
    os.chown(sticky / "link.toml", OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(RefusedError, match=f"link.toml belongs to user {OTHER}"):
        check_way(sticky / "link.toml", trusted)
    os.chown(home / "authpool.toml", OTHER, OTHER)
    with pytest.raises(ConfigurationError, match=f"authpool.toml belongs to user {OTHER}"):
        load_config(home, {})
    os.chown(tmp_path, OTHER, OTHER)
    with pytest.raises(RefusedError, match=f"{tmp_path} belongs to user {OTHER}"):
        check_home(home)


def test_root_may_work_on_anothers_home(home: Path, tmp_path: Path, as_root: None) -> None:
    """What is the home's owner's is as trusted as the home is."""
    for path in (tmp_path, home, home / "authpool.toml"):
        os.chown(path, OTHER, OTHER)
    check_home(home)
    load_config(home, {})


@pytest.mark.parametrize(
    ("name", "members", "private"),
    (("same", [], True), ("same", ["me"], True), ("same", ["me", "she"], False), ("staff", [], False)),
)
def test_a_private_group_may_write(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, members: list[str], *, private: bool
) -> None:
    """Where a user's files are his group's by default, nobody but him is in it."""
    me = "same" if name == "same" else "me"
    user = type("User", (), {"pw_name": me, "pw_gid": os.getgid()})
    group = type("Group", (), {"gr_name": name, "gr_mem": [me if one == "me" else one for one in members]})
    monkeypatch.setattr(strict_modes.pwd, "getpwuid", lambda uid: user)
    monkeypatch.setattr(strict_modes.grp, "getgrgid", lambda gid: group)
    (home / "authpool.toml").chmod(0o664)
    if private:
        load_config(home, {})
    else:
        with pytest.raises(ConfigurationError, match="others may write"):
            load_config(home, {})


def test_links_that_go_round_are_refused(home: Path, tmp_path: Path) -> None:
    """Rather than followed for ever."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(RefusedError, match="goes round"):
        check_way(tmp_path / "a", trusted_users(home))


@pytest.mark.parametrize("name", ("plugins", "accounts", "addon", "clients", "unclaimed"))
def test_what_is_in_the_home_by_a_link(home: Path, tmp_path: Path, name: str) -> None:
    """The way to it counts as well."""
    elsewhere = folder(tmp_path / "elsewhere", 0o755)
    (elsewhere / name).mkdir(mode=0o700)
    if (home / name).exists():
        (home / name).rmdir()
    (home / name).symlink_to(elsewhere / name)
    check_home(home)
    elsewhere.chmod(0o777)
    with pytest.raises(RefusedError, match=f"others may write {elsewhere} "):
        check_home(home)


@pytest.mark.parametrize("named", (False, True))
def test_a_plugin_that_others_can_write_is_not_run(home: Path, tmp_path: Path, *, named: bool) -> None:
    """Neither one of the home's, nor one that is named by option."""
    path = (tmp_path if named else home / "plugins") / "evil.py"
    path.write_text("raise SystemExit('it ran')")
    path.chmod(0o646)
    found = {one.origin: one for one in find_plugins(home / "plugins", [str(path)] if named else [])}
    with pytest.raises(RefusedError, match=f"others may write {path}"):
        found[str(path)].load()
    path.chmod(0o644)
    with pytest.raises(SystemExit, match="it ran"):
        found[str(path)].load()


def test_a_secret_below_a_folder_of_everybodys(home: Path, tmp_path: Path) -> None:
    """`file:PATH`: whoever exchanges it has the gateway show up with his client."""
    shared = folder(tmp_path / "shared", 0o755)
    (shared / "secret").write_text("s")
    (shared / "secret").chmod(0o600)
    text = (home / "authpool.toml").read_text()
    (home / "authpool.toml").write_text(f'{text}client_secret = "file:{shared / "secret"}"\n')
    load_config(home, {})
    shared.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"client_secret: others may write {shared} "):
        load_config(home, {})


def _somebodys_group() -> int:
    """A group that is not this user's private one."""
    return next((gid for gid in os.getgroups() if gid != os.getgid()), os.getgid()) if os.geteuid() else OTHER
