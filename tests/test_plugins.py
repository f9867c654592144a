"""Plugins: found, asked, told; and what a bad one can't do."""

import logging
from pathlib import Path

import pytest

from authpool.account import Account
from authpool.config import HostPattern, PoolConfig
from authpool.errors import ConfigurationError
from authpool.events import AccountEvent
from authpool.plugins import Plugins

EVENT = AccountEvent(kind="disabled", account=Account(pool="p", name="alice"), reason="invalid_grant")


def config(rotation: str = "round_robin") -> PoolConfig:
    return PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),), rotation=rotation)


def plugin(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(text)
    return folder


def test_round_robin_comes_through_the_entry_points() -> None:
    """The first-party rotation is found by the same door as anybody's, and each pool gets its own."""
    plugins = Plugins()
    assert type(plugins.rotation(config())).__name__ == "RoundRobin"
    assert plugins.rotation(config()) is not plugins.rotation(config())


def test_a_rotation_nobody_knows_is_a_configuration_error() -> None:
    """It names the file, the key and what can be done."""
    with pytest.raises(ConfigurationError, match=r"authpool\.toml: pools\.p\.rotation: .*'rond_robin'"):
        Plugins().rotation(config("rond_robin"))


def test_a_plugin_in_the_home_is_used(tmp_path: Path) -> None:
    """A file in plugins/ provides a rotation and hears of events."""
    folder = plugin(
        tmp_path / "plugins",
        """
from authpool import hookimpl
from authpool_round_robin import RoundRobin

heard = []

class Mine(RoundRobin):
    pass

@hookimpl
def authpool_rotation(name):
    return (lambda pool: Mine()) if name == "mine" else None

@hookimpl
def authpool_account_event(event):
    heard.append((event.kind, event.account.address))
    if len(heard) == 2:
        assert heard == [("disabled", "p/alice")] * 2
        raise RuntimeError("heard it twice")
""",
    )
    plugins = Plugins(folder)
    assert type(plugins.rotation(config("mine"))).__name__ == "Mine"
    plugins.notify(EVENT)
    plugins.notify(EVENT)


def test_a_plugin_that_raises_is_named_and_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The event goes on to the others, and the log says whose fault it was."""
    folder = plugin(
        tmp_path / "plugins",
        """
from authpool import hookimpl

@hookimpl
def authpool_account_event(event):
    raise RuntimeError("boom")
""",
    )
    with caplog.at_level(logging.ERROR):
        Plugins(folder).notify(EVENT)
    assert "Plugin mine failed on an account's disabled event" in caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    (
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("from authpool import hookimpl\n@hookimpl\ndef authpool_rotatoin(name): ...", "authpool_rotatoin"),
        ("from authpool import hookimpl\n@hookimpl\ndef authpool_rotation(nmae): ...", "nmae"),
    ),
)
def test_a_plugin_that_can_not_work_stops_the_start(text: str, problem: str, tmp_path: Path) -> None:
    """A misspelt hook or a broken file is found at start, not when it is needed."""
    with pytest.raises(ConfigurationError, match=problem):
        Plugins(plugin(tmp_path / "plugins", text))
