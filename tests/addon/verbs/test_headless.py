"""Where a browser can be started, and what to do where none can."""

import pytest

from authpool.verbs.headless import ssh_line, why_headless

DESK = {"DISPLAY": ":0"}


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
        (DESK | {"JENKINS_URL": "https://ci.example"}, (), "a CI job"),
        (DESK | {"TF_BUILD": "True"}, (), "a CI job"),
        ({"BROWSER": "lynx", "SSH_TTY": "/dev/pts/1"}, (), "ssh"),
        ({"BROWSER": "'", "SSH_TTY": "/dev/pts/1"}, (), "ssh"),
        ({"BROWSER": "w3m:/usr/lib/editor/helper", "SSH_TTY": "/dev/pts/1"}, (), None),
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
