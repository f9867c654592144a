"""git: `ls-remote`, a clone that shows its progress, a push, everything from the environment."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE = 1_200_000
WHO = ("-c", "user.name=a", "-c", "user.email=a@b")


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, stdout=subprocess.DEVNULL)


def ask(name: str, url: str) -> None:
    git("ls-remote", "-q", url)
    print(name, 200, flush=True)


def clone(url: str, folder: Path) -> None:
    """Its progress tells of the first objects while the others are still to come."""
    process = subprocess.Popen(["git", "clone", "--progress", url, str(folder)], stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    while piece := os.read(process.stderr.fileno(), 65536):
        before, said = said, said + piece
        if b"Receiving objects" in said and b"Receiving objects" not in before:
            print("event", flush=True)
    assert process.wait() == 0, said


def push(url: str, folder: Path) -> None:
    (folder / "more").write_bytes(os.urandom(SIZE))
    git("-C", str(folder), "add", ".")
    git("-C", str(folder), *WHO, "commit", "-q", "-m", "more")
    git("-C", str(folder), "push", "-q", url, "HEAD:main")
    print("uploaded", SIZE, flush=True)


def main(url: str) -> None:
    ask("plain", url)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clone"
        clone(url, folder)
        push(url, folder)
    sys.stdin.readline()
    for _ in range(4):
        ask("after", url)


main(f"{sys.argv[1]}/repository.git")
