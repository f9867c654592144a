"""Where a browser can be started, and which."""

from pathlib import Path

import pytest

from authpool.cli.browser import browser_command, start_browser
from authpool.cli.headless import ssh_line, why_headless

DESK = {"DISPLAY": ":0"}
URL = "https://accounts.example.com/auth?a=b&c=%20d"


@pytest.mark.parametrize(
    ("environ", "files", "why"),
    (
        (DESK, (), None),
        ({"WAYLAND_DISPLAY": "wayland-0"}, (), None),
        ({}, (), "there is no display"),
        (DESK | {"SSH_CONNECTION": "a 1 b 22"}, (), "ssh"),
        (DESK | {"SSH_TTY": "/dev/pts/1"}, (), "ssh"),
        (DESK | {"CI": "true"}, (), "a CI job"),
        (DESK | {"CI": "false"}, (), None),
        (DESK | {"container": "podman"}, (), "a container"),
        (DESK | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (), "a container"),
        (DESK, ("/.dockerenv",), "a container"),
        (DESK, ("/run/.containerenv",), "a container"),
        ({"BROWSER": "/usr/lib/editor/helper", "SSH_TTY": "/dev/pts/1"}, ("/.dockerenv",), None),
    ),
)
def test_why_no_browser_can_be_started(environ: dict[str, str], files: tuple[str, ...], why: str | None) -> None:
    """An editor that works remotely sets BROWSER, and knows a way."""
    told = why_headless(environ, "linux", lambda name: name in files)
    assert (told is None) == (why is None)
    assert (why or "") in (told or "")


def test_other_systems_have_a_screen_without_saying_so() -> None:
    """DISPLAY is of X11."""
    assert why_headless({}, "darwin", lambda name: False) is None


def test_the_tunnel_leads_to_where_this_session_came_in() -> None:
    """The address and the port that the client connected to; without them a word to fill in."""
    assert ssh_line({}, 5000, "me") is None
    connection = {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}
    assert ssh_line(connection, 5000, "me") == "ssh -N -L 5000:127.0.0.1:5000 me@192.0.2.2"
    connection = {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 2222"}
    assert ssh_line(connection, 5000, "me") == "ssh -N -L 5000:127.0.0.1:5000 -p 2222 me@192.0.2.2"
    assert ssh_line({"SSH_TTY": "/dev/pts/1"}, 5000, "me") == "ssh -N -L 5000:127.0.0.1:5000 me@THIS-HOST"


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
