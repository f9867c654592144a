"""Where a plugin raised: its own file and line, and not a word of what it said."""

import json
import logging
import threading

import pytest

from authpool.errors import raised_at
from authpool.plugins.event_thread import EventThread


def _raises() -> None:
    raise ValueError("access-of-alice")


def _asks_a_library() -> None:
    json.loads("{access-of-alice")


@pytest.mark.parametrize("plugin", (_raises, _asks_a_library))
def test_it_is_the_line_of_the_plugin(plugin: object) -> None:
    """Of the function that raised or called what raised, though the library's own lines are below it."""
    with pytest.raises(ValueError, match=r"access-of-alice|property name") as caught:
        plugin()  # type: ignore[operator]
    line = plugin.__code__.co_firstlineno + 1  # type: ignore[attr-defined]
    assert raised_at(caught.value) == f" in {__file__}, line {line}"


def test_an_error_that_was_never_raised_has_no_place() -> None:
    """Nothing is made up."""
    assert raised_at(ValueError()) == ""


def test_the_event_thread_names_the_place_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A job that raises is one line without its text; the next one is done."""
    done = threading.Event()
    event_thread = EventThread("authpool events")
    with caplog.at_level(logging.ERROR):
        event_thread.post(_raises, "events")
        event_thread.post(done.set, "events")
        assert done.wait(10)
        assert event_thread.close(10)
    (line,) = caplog.messages
    assert line.startswith(f"authpool events failed: ValueError in {__file__}, line ")
    assert "access-of-alice" not in caplog.text
