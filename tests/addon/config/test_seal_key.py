"""Where the operator's key comes from, and what is no key."""

import base64
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from authpool.config.config_table import ConfigTable
from authpool.config.seal_key import read_seal_key, seal_key
from authpool.errors import ConfigurationError

SECRET = bytes(range(100, 132))
BASE64 = base64.b64encode(SECRET).decode()


def resolve(source: str, home: Path, **environ: str) -> bytes:
    return seal_key(source, home, environ).resolve()


@pytest.mark.parametrize(
    "text",
    (
        BASE64,
        f"  {BASE64}\n",
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(bytes(range(224, 256))).decode(),
        SECRET.hex(),
        SECRET.hex().upper(),
    ),
)
def test_a_key_is_read_in_base64_or_hex(tmp_path: Path, text: str) -> None:
    assert resolve("env:KEY", tmp_path, KEY=text) in {SECRET, bytes(range(224, 256))}
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o400)
    assert resolve("file:key", tmp_path) == resolve(f"file:{file}", tmp_path) == resolve("env:KEY", tmp_path, KEY=text)


def test_a_file_may_hold_the_bytes_themselves(tmp_path: Path) -> None:
    """As systemd-creds and `head -c 32 /dev/urandom` write them."""
    raw = bytes(range(31)) + b"\xff"
    (tmp_path / "key").write_bytes(raw)
    (tmp_path / "key").chmod(0o600)
    assert resolve("file:key", tmp_path) == raw


@pytest.mark.parametrize(
    "text",
    (
        "hunter2",
        "correct horse battery staple",
        "correcthorsebatterystaplecorrecthorsebatter",
        "CORRECTHORSEBATTERYSTAPLECORRECTHORSEBATTER",
        "x" * 32,
        "A" * 42 + "b",
        "00" * 32,
        "0123456789abcdef" * 4,
        base64.b64encode(SECRET[:16]).decode(),
        base64.b64encode(SECRET * 2).decode(),
        f"{BASE64}\n{BASE64}",
    ),
)
def test_a_passphrase_is_refused_and_the_remedy_says_how_to_make_a_key(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    for source in ("env:KEY", "file:key"):
        with pytest.raises(ConfigurationError, match="head -c 32 /dev/urandom") as refused:
            resolve(source, tmp_path, KEY=text)
        assert text not in str(refused.value)


@pytest.mark.parametrize("environ", ({}, {"KEY": " "}))
def test_a_variable_that_is_not_set_is_told(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="KEY is not set, or is empty"):
        resolve("env:KEY", tmp_path, **environ)


@pytest.mark.parametrize("mode", (0o440, 0o444, 0o604, 0o620, 0o666))
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Root's group, by which systemd's access control lists show, is nobody else."""
    file = tmp_path / "key"
    file.write_text(BASE64)
    file.chmod(mode)
    if os.geteuid() == 0:
        if mode == 0o440:
            assert resolve("file:key", tmp_path) == SECRET
        os.chown(file, 0, 12345)
    with pytest.raises(ConfigurationError, match=f"open to others \\(mode {mode:04o}\\)"):
        resolve("file:key", tmp_path)


def test_a_key_that_somebody_else_could_exchange_is_refused(tmp_path: Path) -> None:
    """He would have the key to all that is sealed from then on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "key"
    file.write_text(BASE64)
    file.chmod(0o600)
    assert resolve("file:folder/key", tmp_path) == SECRET
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="could be exchanged"):
        resolve("file:folder/key", tmp_path)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
        with pytest.raises(ConfigurationError, match="belongs to"):
            resolve("file:folder/key", tmp_path)


def test_a_link_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(BASE64)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "link").symlink_to("key")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "folder", "fifo", "nothing", "a\0b"):
        with pytest.raises(ConfigurationError):
            resolve(f"file:{name}", tmp_path)


@pytest.mark.parametrize("source", ("a-key-in-the-file", "env:", "file: ", "keyring:", "env:no-name", "ENV:KEY"))
def test_a_key_that_is_written_out_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_seal_key(ConfigTable({"seal_key": source}, ("gateway",), ("seal_key",)), tmp_path, {})
    assert "gateway.seal_key" in str(refused.value)
    assert "a-key" not in str(refused.value)


def test_no_line_no_key(tmp_path: Path) -> None:
    assert read_seal_key(ConfigTable({}, ("gateway",), ("seal_key",)), tmp_path, {}) is None


class TestKeyring:
    """The desktop's own store of secrets, where the extra is installed."""

    def test_it_is_asked_by_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def get_password(service: str, name: str) -> str | None:
            asked.append((service, name))
            return BASE64 if name == "work" else None

        self._install(monkeypatch, get_password)
        assert resolve("keyring:work", tmp_path) == SECRET
        assert asked == [("authpool", "work")]
        with pytest.raises(ConfigurationError, match="keyring set authpool home"):
            resolve("keyring:home", tmp_path)

    def test_one_that_is_locked_is_told_without_its_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def get_password(service: str, name: str) -> str | None:
            raise RuntimeError("its own words")

        self._install(monkeypatch, get_password)
        with pytest.raises(ConfigurationError, match="does not answer \\(RuntimeError\\)") as refused:
            resolve("keyring:work", tmp_path)
        assert "own words" not in str(refused.value)

    def test_without_the_extra_the_remedy_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(ConfigurationError, match=r"authpool\[keyring\]"):
            resolve("keyring:work", tmp_path)

    def _install(self, monkeypatch: pytest.MonkeyPatch, get_password: object) -> None:
        module = ModuleType("keyring")
        module.get_password = get_password  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "keyring", module)
