"""Starting a browser without waiting for it: it neither blocks, nor writes to our terminal, nor reads from it."""

import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Mapping

from authpool.verbs.headless import named_browsers


def start_browser(url: str, environ: Mapping[str, str]) -> bool:
    """Start the user's browser at `url`; whether one was started, as far as anybody can tell at once."""
    command = browser_command(url, environ)
    if command is None:
        return _by_python(url, environ)
    try:
        subprocess.Popen(  # noqa: S603 - the operator's own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True


def browser_command(url: str, environ: Mapping[str, str]) -> list[str] | None:
    """The command to run: the first of BROWSER that is there, else the desktop's own; None: let Python find one.

    Where BROWSER names none that can be started, nor is another: the desktop's own opener would run what it names.
    """
    for words in named_browsers(environ):
        if shutil.which(words[0]):
            return _with_url(words, url)
    if environ.get("BROWSER"):
        return None
    if sys.platform.startswith(("linux", "freebsd", "openbsd")):
        opener = shutil.which("xdg-open") or shutil.which("gio")
        if opener is not None:
            return [opener, "open", url] if opener.endswith("gio") else [opener, url]
    return None


def _with_url(words: list[str], url: str) -> list[str]:
    """As `webbrowser` reads BROWSER: ``%s`` is the address, which otherwise comes last."""
    if any("%s" in word for word in words):
        return [word.replace("%s", url) for word in words]
    return [*(word for word in words if word != "&"), url]


def _by_python(url: str, environ: Mapping[str, str]) -> bool:
    """On macOS and Windows starting one does not wait for it; elsewhere there is none that has a window."""
    if sys.platform.startswith(("darwin", "win")) and not environ.get("BROWSER"):
        return webbrowser.open(url)
    return False
