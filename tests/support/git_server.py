"""A small git server over HTTP: `git http-backend` on one bare repository."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from support.answers import send
from support.exchange import Reply
from support.streams import slow_body

# What of this process's environment a git may see: no configuration of the person who runs the tests.
_SAFE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
_LONG = 100_000


async def _git(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("git", *arguments, stdin=asyncio.subprocess.DEVNULL, env=_SAFE)
    assert await process.wait() == 0, arguments


async def make_repository(folder: Path) -> None:
    """Make the bare repository `folder/repository.git` with a file of 1.2 MB on `main`, open to pushes."""
    work, bare = folder / "work", folder / "repository.git"
    await _git("init", "-q", "-b", "main", str(work))
    (work / "file").write_bytes(os.urandom(1_200_000))
    await _git("-C", str(work), "add", ".")
    await _git("-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "one")
    await _git("clone", "-q", "--bare", str(work), str(bare))
    await _git("-C", str(bare), "config", "http.receivepack", "true")


@dataclass(frozen=True, slots=True)
class GitBackend:
    """Answers by `git http-backend` (CGI) for what is in `root`; the second half of a pack waits for `gate`."""

    root: Path
    gate: asyncio.Event

    async def play(self, reply: Reply) -> None:
        request = reply.request
        path, _, query = request.target.partition("?")
        process = await asyncio.create_subprocess_exec(
            *("git", "-c", "safe.directory=*", "http-backend"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={
                **_SAFE,
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": request.method,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": request.header("content-type") or "",
                "CONTENT_LENGTH": str(len(request.body)),
                "HTTP_CONTENT_ENCODING": request.header("content-encoding") or "",
                "GIT_PROTOCOL": request.header("git-protocol") or "",
            },
        )
        out, _ = await process.communicate(request.body)
        head, _, body = out.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200 OK").split()[0])
        if len(body) > _LONG:
            half, kind = len(body) // 2, fields["Content-Type"]
            await slow_body(body[:half], body[half:], self.gate, kind).play(reply)
        else:
            await send(reply, status, fields, body)
