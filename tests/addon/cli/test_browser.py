"""Which browser is started, and that it is."""

from pathlib import Path

import pytest

from authpool.cli import browser
from authpool.cli.browser import browser_command, start_browser

URL = "https://accounts.example.com/auth?a=b&c=%20d"


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return path


def test_the_first_browser_that_is_there_and_has_a_window(tmp_path: Path) -> None:
    """As `webbrowser` reads BROWSER; a text browser would take over the terminal."""
    good, text = program(tmp_path, "good browser"), program(tmp_path, "lynx")
    named = f"/nowhere:{text}:'{good}' --new"
    assert browser_command(URL, {"BROWSER": named}) == [str(good), "--new", URL]
    assert browser_command(URL, {"BROWSER": f"'{good}' --app=%s &"})[1] == f"--app={URL}"  # type: ignore[index]


@pytest.mark.parametrize("named", ("lynx", "/usr/bin/w3m %s", "/nowhere/browser", "'", "links:elinks"))
def test_no_other_takes_the_place_of_one_that_can_not_be_started(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The desktop's opener reads BROWSER, too: it would run the text browser."""
    monkeypatch.setattr(browser.shutil, "which", lambda name: f"/usr/bin/{name}" if "/" not in name else None)
    assert browser_command(URL, {}) in (["/usr/bin/xdg-open", URL], None)
    assert browser_command(URL, {"BROWSER": named}) is None
    assert not start_browser(URL, {"BROWSER": named})


def test_one_that_can_not_be_started_is_none(tmp_path: Path) -> None:
    """It is no program at all."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o700)
    assert not start_browser(URL, {"BROWSER": str(broken)})
