"""SIGHUP: a reload from a supervisor, however early; the end where it means that the terminal is gone."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.answers import Slow
from support.gateway import Mitmdump
from support.pool_rig import Rig, client

pytestmark = pytest.mark.mitmproxy

ROOT = Path(__file__).parents[3]
SCRIPT = str(ROOT / "addon" / "gateway.py")

OWNING = """
import fcntl, os, sys, termios

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes standard input the terminal of the session, as a login or a terminal window does."""

HURRIED = """
import os, signal

{when}:
    for _ in range({times}):
        os.kill(os.getpid(), signal.SIGHUP)
"""


@pytest.mark.parametrize("when", ("def load(loader)", "def configure(updated)", "def running()", "async def running()"))
async def test_a_reload_before_the_gateway_runs_does_not_end_it(
    rig: Rig, confdir: Path, tmp_path: Path, when: str
) -> None:
    """A supervisor that reloads as soon as the port is open; several times, at each step of the start."""
    rig.home("alice")
    (tmp_path / "hurried.py").write_text(HURRIED.format(when=when, times=3))
    process = Mitmdump(
        *("-s", SCRIPT, "-s", str(tmp_path / "hurried.py"), "--mode", f"reverse:{rig.upstream.url}"),
        home=rig.path,
        confdir=confdir,
    )
    async with process, client(process.url) as api:
        assert (await api.get("/x")).status_code == 200
        async with asyncio.timeout(30):
            while process.text.count("Pool p reloaded") < 2:  # what was asked for was done, once it could be
                await asyncio.sleep(0.01)
        assert await process.stop() == 0


async def test_a_reload_while_it_ends_does_not_cut_it_off(rig: Rig, confdir: Path) -> None:
    """A supervisor's SIGHUP after its SIGTERM: the refresh under way still lands, and is written."""
    rig.home("alice", expires_in=-10)
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    process = Mitmdump("-s", SCRIPT, "--mode", f"reverse:{rig.upstream.url}", home=rig.path, confdir=confdir)
    async with process:
        async with asyncio.timeout(30):
            while not rig.posts:
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        await process.wait_for("stopped.")
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        gate.set()
        assert await process.stop() == 0
    assert rig.provider.is_current(rig.account("alice")["token"]["refresh_token"])


@dataclass
class OnTerminal:
    """A tool in a session of its own, on a terminal that the test holds the other end of."""

    process: asyncio.subprocess.Process
    ours: int
    shown: bytearray = field(default_factory=bytearray)

    def hang_up(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        os.close(self.ours)

    def read(self) -> None:
        with suppress(OSError):
            self.shown += os.read(self.ours, 65536)

    async def wait_until_shown(self, words: bytes) -> None:
        async with asyncio.timeout(30):
            while words not in self.shown:
                assert self.process.returncode is None, bytes(self.shown)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def on_terminal(tool: str, *arguments: str, home: Path, detached: bool = False) -> AsyncIterator[OnTerminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    if not detached:
        command = [sys.executable, "-c", OWNING, *command]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=os.environ
        | {"AUTHPOOL_HOME": str(home), "PYTHONPATH": f"{ROOT / 'addon'}:{ROOT / 'plugins'}", "TERM": "xterm"},
    )
    os.close(theirs)
    terminal = OnTerminal(process=process, ours=ours)
    asyncio.get_running_loop().add_reader(ours, terminal.read)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        with suppress(OSError):
            terminal.hang_up()


def arguments(rig: Rig, confdir: Path, tool: str) -> list[str]:
    web = ["--no-web-open-browser", "--web-port", "0"] if tool == "mitmweb" else []
    return ["-s", SCRIPT, "--mode", f"reverse:{rig.upstream.url}@127.0.0.1:0", *web, "--set", f"confdir={confdir}"]


async def lives(rig: Rig) -> None:
    async with asyncio.timeout(30):
        while not list((rig.path / "run").glob("*.json")):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("tool", ("mitmproxy", "mitmweb", "mitmdump"))
async def test_a_lost_terminal_ends_it(rig: Rig, confdir: Path, tool: str) -> None:
    """A closed window, `tmux kill-server`: it ends, and leaves nothing of itself in the home."""
    rig.home("alice")
    async with on_terminal(tool, *arguments(rig, confdir, tool), home=rig.path) as terminal:
        await lives(rig)
        terminal.hang_up()
        async with asyncio.timeout(20):
            await terminal.process.wait()
    assert list((rig.path / "run").iterdir()) == []


async def test_a_console_ends_though_no_signal_tells_it(rig: Rig, confdir: Path) -> None:
    """Its terminal is not the one of its session, so the kernel tells it nothing."""
    rig.home("alice")
    tool = "mitmproxy"
    async with on_terminal(tool, *arguments(rig, confdir, tool), home=rig.path, detached=True) as terminal:
        await lives(rig)
        terminal.hang_up()
        async with asyncio.timeout(20):
            await terminal.process.wait()


@pytest.mark.parametrize("tool", ("mitmproxy", "mitmdump"))
async def test_with_its_terminal_a_hangup_is_a_reload(rig: Rig, confdir: Path, tool: str) -> None:
    """The terminal answers, so somebody has sent the signal."""
    rig.home("alice")
    async with on_terminal(tool, *arguments(rig, confdir, tool), home=rig.path) as terminal:
        await lives(rig)
        (file,) = (rig.path / "run").glob("*.json")
        before = file.stat().st_ino
        terminal.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while file.stat().st_ino == before:
                assert terminal.process.returncode is None
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("tool", ("mitmproxy", "mitmdump"))
async def test_a_lost_terminal_lets_a_refresh_land(rig: Rig, confdir: Path, tool: str) -> None:
    """The provider has rotated the token already: it is written before the end."""
    rig.home("alice", expires_in=-10)
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    async with on_terminal(tool, *arguments(rig, confdir, tool), home=rig.path) as terminal:
        async with asyncio.timeout(30):
            while not rig.posts:
                await asyncio.sleep(0.01)
        terminal.hang_up()
        await asyncio.wait([asyncio.create_task(terminal.process.wait())], timeout=0.5)
        gate.set()
        async with asyncio.timeout(20):
            await terminal.process.wait()
    assert rig.provider.is_current(rig.account("alice")["token"]["refresh_token"])
