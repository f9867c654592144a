"""Whether a browser can be started where this process runs, and what to do where it can't. Pure."""

from collections.abc import Callable, Mapping

_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_SSH = ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT")


def why_headless(environ: Mapping[str, str], platform: str, exists: Callable[[str], bool]) -> str | None:
    """Say why nobody sits in front of this machine's screen; None where somebody may.

    `platform` is `sys.platform`, `exists` looks for a file.
    """
    if environ.get("BROWSER"):
        return None  # whoever set it knows how to get at a browser: editors that work remotely do
    if any(environ.get(name) for name in _SSH):
        return "this is a session over ssh"
    if environ.get("CI", "").lower() not in {"", "0", "false"}:
        return "this is a CI job"
    if environ.get("container") or environ.get("KUBERNETES_SERVICE_HOST") or any(map(exists, _CONTAINER_FILES)):
        return "this is a container"
    if platform.startswith(("linux", "freebsd", "openbsd")) and not any(environ.get(name) for name in _DISPLAYS):
        return "there is no display"
    return None


def ssh_line(environ: Mapping[str, str], port: int, user: str) -> str | None:
    """The command that lets a browser on the other end of an ssh session reach `port` here; None without ssh."""
    connection = environ.get("SSH_CONNECTION", "").split()
    if not any(environ.get(name) for name in _SSH):
        return None
    address = connection[2] if len(connection) == 4 else "THIS-HOST"  # client address, port, server address, port
    at = f"-p {connection[3]} " if len(connection) == 4 and connection[3] != "22" else ""
    return f"ssh -N -L {port}:127.0.0.1:{port} {at}{user}@{address}"
