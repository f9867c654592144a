"""Whether a browser can be started where this process runs, and what to do where it can't. Pure."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath

_TEXT_BROWSERS = frozenset(
    {"browsh", "carbonyl", "cha", "edbrowse", "elinks", "links", "links2", "lynx", "w3m", "www-browser"}
)
"""These would take over the terminal."""
_CI = ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TF_BUILD", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID", "BUILDKITE")
"""What CI systems set, some of them without `CI`."""
_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_SSH = ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT")


def why_headless(environ: Mapping[str, str], platform: str, exists: Callable[[str], bool]) -> str | None:
    """Say why nobody sits in front of this machine's screen; None where somebody may.

    `platform` is `sys.platform`, `exists` looks for a file.
    """
    if any(named_browsers(environ)):
        return None  # whoever set it knows how to get at a browser: editors that work remotely do
    if any(environ.get(name) for name in _SSH):
        return "this is a session over ssh"
    if environ.get("CI", "").lower() not in {"", "0", "false"} or any(environ.get(name) for name in _CI):
        return "this is a CI job"
    if environ.get("container") or environ.get("KUBERNETES_SERVICE_HOST") or any(map(exists, _CONTAINER_FILES)):
        return "this is a container"
    if platform.startswith(("linux", "freebsd", "openbsd")) and not any(environ.get(name) for name in _DISPLAYS):
        return "there is no display"
    return None


def named_browsers(environ: Mapping[str, str]) -> Iterator[list[str]]:
    """The commands in BROWSER, as `webbrowser` reads it, without those of text browsers."""
    for named in environ.get("BROWSER", "").split(os.pathsep):
        try:
            words = shlex.split(named)
        except ValueError:
            continue
        if words and words[0] and PurePath(words[0]).name not in _TEXT_BROWSERS:
            yield words


def ssh_line(environ: Mapping[str, str], port: int, user: str) -> str | None:
    """The command that lets a browser on the other end of an ssh session reach `port` here; None without ssh."""
    connection = environ.get("SSH_CONNECTION", "").split()
    if not any(environ.get(name) for name in _SSH):
        return None
    address = connection[2] if len(connection) == 4 else "THIS-HOST"  # client address, port, server address, port
    at = f"-p {connection[3]} " if len(connection) == 4 and connection[3] != "22" else ""
    return f"ssh -N -L {port}:127.0.0.1:{port} {at}{user}@{address}"
