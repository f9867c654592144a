"""Node.js for the tests: is it there, and has npm put the provider in its place?"""

import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

PROVIDER_FOLDER = Path(__file__).parent.parent / "provider"
_OLDEST = 20
_INSTALL_SECONDS = 300


class NodeMissingError(Exception):
    """Node.js or npm is missing or too old; the message is for the person who runs the tests."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"Node.js {_OLDEST} or newer is needed for the OAuth provider in the tests; {found}. "
            "Install nodejs and npm, or run with AUTHPOOL_REQUIRE_NODE=1 to make this an error."
        )


def node_is_required() -> bool:
    """Whether tests without Node.js must fail rather than be skipped."""
    return os.environ.get("AUTHPOOL_REQUIRE_NODE") == "1"


@functools.cache
def node() -> str:
    """Find the Node.js to run: the program itself, for a wrapper script would pass no signal on.

    Raises NodeMissingError.
    """
    path = shutil.which("node")
    if path is None:
        raise NodeMissingError("there is no `node` on the PATH")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < _OLDEST:
        raise NodeMissingError(f"`node` is {version}")
    return subprocess.run([path, "-p", "process.execPath"], capture_output=True, text=True, check=True).stdout.strip()


def install_provider(folder: Path = PROVIDER_FOLDER) -> None:
    """Run `npm install` unless the pinned packages are there; only one process at a time does.

    Raises NodeMissingError, and RuntimeError with npm's own words when the installation fails.
    """
    # Not in the folder: there it would be one more thing to ignore, and npm may empty node_modules.
    lock_name = f"authpool-npm-{os.getuid()}-{folder.stat().st_ino}.lock"
    with FileLock(Path(tempfile.gettempdir()) / lock_name):
        if not _is_installed(folder):
            _npm_install(folder)


def _is_installed(folder: Path) -> bool:
    wanted: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    try:
        found = {name: json.loads((folder / "node_modules" / name / "package.json").read_text()) for name in wanted}
    except FileNotFoundError:
        return False
    return {name: package["version"] for name, package in found.items()} == wanted


def _npm_install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NodeMissingError("there is no `npm` on the PATH")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"npm install in {folder} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
