"""Plugins: found, asked, told; and what a bad one can't do."""

import logging
import sys
import threading
from pathlib import Path

import pytest

from authpool.accounts.account import Account
from authpool.accounts.events import AccountEvent
from authpool.config import HostPattern, PoolConfig, load_config
from authpool.errors import ConfigurationError
from authpool.plugins.event_thread import CAPACITY, EventThread
from authpool.plugins.manager import Plugins

EVENT = AccountEvent(kind="disabled", account=Account(pool="p", name="alice"), reason="invalid_grant")

ENABLED = AccountEvent(kind="enabled", account=Account(pool="p", name="alice"))


def config(rotation: str = "round_robin") -> PoolConfig:
    return PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),), rotation=rotation)


def plugin(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(text)
    return folder


def test_round_robin_comes_through_the_entry_points() -> None:
    """The first-party rotation is found by the same door as anybody's, and each pool gets its own."""
    plugins = Plugins()
    assert type(plugins.rotation(config()).inner).__name__ == "RoundRobin"
    assert plugins.rotation(config()) is not plugins.rotation(config())


def test_a_rotation_nobody_knows_is_a_configuration_error() -> None:
    """It names the file, the key and what can be done."""
    with pytest.raises(ConfigurationError, match=r"authpool\.toml: pools\.p\.rotation: .*'rond_robin'"):
        Plugins().rotation(config("rond_robin"))


def test_a_plugin_in_the_home_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    assert type(plugins.rotation(config("mine")).inner).__name__ == "Mine"
    plugins.notify(EVENT)
    plugins.notify(EVENT)
    plugins.close()
    assert "RuntimeError" in caplog.text  # it heard both


RAISING = """
from authpool import hookimpl

@hookimpl
def authpool_account_event(event):
    raise RuntimeError("boom access-token-of-alice")
"""


def test_a_plugin_that_raises_is_named_once_for_each_kind_of_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the place it happened at, and without its words: it was given live credentials."""
    plugins = Plugins(plugin(tmp_path / "plugins", RAISING))
    for event in (EVENT, EVENT, ENABLED, EVENT):
        plugins.notify(event)
    plugins.close()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [message.partition(" in ")[0] for message in told] == [
        "Plugin mine failed on an account's disabled event: RuntimeError",
        "Plugin mine failed on an account's enabled event: RuntimeError",
    ]
    assert "mine.py, line 6" in told[0]
    assert "boom" not in caplog.text


HANGING = """
import threading
from authpool import hookimpl

entered, released, heard = threading.Event(), threading.Event(), []

@hookimpl
def authpool_account_event(event):
    heard.append(event.kind)
    entered.set()
    released.wait(20)

@hookimpl
def authpool_stop():
    heard.append("stop")
"""


def test_a_plugin_that_hangs_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Telling returns at once, what is too much is dropped with one line, and the end does not wait for ever.

    What hangs may go on later: what was waiting is done then, and the thread ends.
    """
    before = set(threading.enumerate())
    plugins = Plugins(plugin(tmp_path / "plugins", HANGING))
    hanging = sys.modules["authpool_plugin_file_mine"]
    plugins.notify(EVENT)
    assert hanging.entered.wait(10)  # type: ignore[attr-defined]
    for _ in range(CAPACITY + 500):  # none of them waits for the one that hangs
        plugins.notify(EVENT)
    full = [message for message in caplog.messages if "further ones are dropped" in message]
    assert len(full) == 1
    assert "plugin mine has been busy for" in full[0]
    plugins.close(patience_seconds=0.2)
    assert "events were not told any more: plugin mine has been busy" in caplog.messages[-1]
    (thread,) = [thread for thread in set(threading.enumerate()) - before if thread.name == "authpool events"]
    hanging.released.set()  # type: ignore[attr-defined]
    thread.join(30)
    assert not thread.is_alive()
    assert len(hanging.heard) == 1 + CAPACITY  # the one that hung, and those that waited


def test_events_arrive_in_order_and_the_end_waits_for_them(tmp_path: Path) -> None:
    """Whoever listens hears of each, and then that this is the end; the thread is gone."""
    before = threading.active_count()
    plugins = Plugins(plugin(tmp_path / "plugins", HANGING))
    hanging = sys.modules["authpool_plugin_file_mine"]
    hanging.released.set()  # type: ignore[attr-defined]
    for event in (EVENT, ENABLED, EVENT):
        plugins.notify(event)
    plugins.close()
    assert hanging.heard == ["disabled", "enabled", "disabled", "stop"]  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_courier_without_work_has_no_thread() -> None:
    """And what is posted after its end is not done."""
    before = threading.active_count()
    event_thread = EventThread("test")
    assert event_thread.close(1)
    event_thread.post(lambda: None, "jobs")
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("text", "problem"),
    (
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        (
            "from authpool import hookimpl\n@hookimpl\ndef authpool_rotatoin(name): ...",
            "there is no hook authpool_rotatoin (Did you mean `authpool_rotation`?)",
        ),
        ("from authpool import hookimpl\n@hookimpl\ndef authpool_rotation(nmae): ...", "nmae"),
    ),
)
def test_a_plugin_that_can_not_work_is_named_and_left_out(
    text: str, problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is found at start, not when it is needed; the others are there, and nothing of it stays behind."""
    plugins = Plugins(plugin(tmp_path / "plugins", text))
    row = next(row for row in plugins.rows if row.name == "mine")
    assert problem in row.left_out
    assert row.origin == str(tmp_path / "plugins" / "mine.py")
    assert not row.hooks
    assert f"Plugin mine ({row.origin}) is left out: {row.left_out}" in caplog.text
    assert plugins.rotation(config())
    with pytest.raises(ConfigurationError, match=r"Left out: mine \("):
        plugins.rotation(config("mine"))


def test_a_plugin_is_found_by_file_and_by_module_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside entry points and the home; each says where it is from."""
    (tmp_path / "by_module.py").write_text(f"__version__ = '1.2'\n{RAISING}")
    (tmp_path / "by_file.py").write_text(RAISING)
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins(None, ["by_module", str(tmp_path / "by_file.py"), "no_such_module"])
    rows = {row.name: row for row in plugins.rows}
    assert rows["by_module"].origin == "module by_module"
    assert rows["by_module"].version == "1.2"
    assert rows["by_file"].hooks == ("authpool_account_event",)
    assert "ModuleNotFoundError" in rows["no_such_module"].left_out
    assert rows["round_robin"].origin == "first-party"


def test_two_plugins_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    """The second one is left out."""
    (tmp_path / "round_robin.py").write_text(RAISING)
    rows = [row for row in Plugins(tmp_path).rows if row.name == "round_robin"]
    assert [row.left_out for row in rows] == ["", "another plugin has this name"]


CONFIGURED = """
from authpool import hookimpl

seen = []

@hookimpl
def authpool_configure(options):
    table = options.only("url")
    seen.append(table.take_string("url"))
"""


def test_a_plugin_reads_its_own_table(tmp_path: Path) -> None:
    """An unknown key in it, an unknown plugin, and one that takes none are told with file, key and remedy."""
    plugins = Plugins(plugin(tmp_path / "plugins", CONFIGURED))
    plugins.configure({"mine": {"url": "x"}}, tmp_path)
    plugins.configure({}, tmp_path)
    assert sys.modules["authpool_plugin_file_mine"].seen == ["x", None]  # type: ignore[attr-defined]
    for table, words in (
        ({"mine": {"ulr": "x"}}, r"authpool\.toml: plugins\.mine\.ulr: .* Did you mean `url`"),
        ({"mien": {}}, r"authpool\.toml: plugins\.mien: there is no such plugin. Did you mean `mine`"),
        ({"round_robin": {}}, r"plugins\.round_robin: the plugin has nothing to configure"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            plugins.configure(table, tmp_path)


PRESET = """
from authpool import hookimpl
from authpool.config.presets import Preset

@hookimpl
def authpool_preset(name):
    if name in ("acme", "google"):
        return Preset(token_url="https://acme.example/token")
"""


def test_a_preset_of_a_plugin_fills_a_pool_and_never_replaces_ours(tmp_path: Path) -> None:
    """Refresh tokens of the preset `google` go to Google, whatever a plugin says."""
    plugins = Plugins(plugin(tmp_path / "plugins", PRESET))
    text = "".join(
        f'[pools.{name}]\npreset = "{name}"\nclient_id = "c"\nhosts = ["{name}.example"]\n'
        for name in ("acme", "google")
    )
    (tmp_path / "authpool.toml").write_text(text)
    pools = load_config(tmp_path, {}, plugins).pools
    assert pools["acme"].token_url == "https://acme.example/token"
    assert pools["google"].token_url == "https://oauth2.googleapis.com/token"


@pytest.mark.parametrize(
    ("answer", "words"),
    (
        ("lambda pool: 1 / 0", r"plugin mine: failed \(ZeroDivisionError"),
        ("lambda pool: 5", "plugin mine: answers a int, not a Rotation"),
        ("1 / 0", r"plugin mine: failed \(ZeroDivisionError in .*mine\.py, line 5"),
    ),
)
def test_a_plugin_that_fails_where_a_pool_needs_it_is_a_configuration_error(
    answer: str, words: str, tmp_path: Path
) -> None:
    """At start the gateway stops with its name, at reload the old configuration stays."""
    text = f"from authpool import hookimpl\n\n@hookimpl\ndef authpool_rotation(name):\n    return {answer}\n"
    with pytest.raises(ConfigurationError, match=words):
        Plugins(plugin(tmp_path / "plugins", text)).rotation(config("mine"))
