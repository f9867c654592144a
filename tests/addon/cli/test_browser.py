"""Which browser is started, and that it is."""

from pathlib import Path

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
    assert browser_command(URL, {"BROWSER": "'"}) in (None, browser_command(URL, {}))


def test_one_that_can_not_be_started_is_none(tmp_path: Path) -> None:
    """It is no program at all."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o700)
    assert not start_browser(URL, {"BROWSER": str(broken)})
