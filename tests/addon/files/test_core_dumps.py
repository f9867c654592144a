"""A gateway that crashes leaves no memory behind: real ones are made to, where the system would write a core."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.home import make_home
from support.mitmdump import Mitmdump

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")
CRASH = "import os, signal, sys; os.kill(os.getpid(), int(sys.argv[1]))"
DUMPS = (signal.SIGABRT, signal.SIGSEGV)
TOOLS = {"mitmdump": ("-s", SCRIPT), "authpool mitmdump": ()}

pytestmark = [
    pytest.mark.mitmproxy,
    pytest.mark.skipif(sys.platform != "linux", reason="what other systems do with a crash is not looked at"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder to crash in, and cores of any size for what is started from here, as far as this process may."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    crashes = tmp_path / "crashes"
    crashes.mkdir()
    try:
        yield crashes
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def gateway_in(folder: Path, tool: str) -> Mitmdump:
    home = make_home(folder.parent, pools={"p": {"type": "static", "hosts": ["p.example"]}})
    return Mitmdump(*TOOLS[tool], home=home, tool=tool, cwd=folder)


def limits(pid: int) -> list[str]:
    """What the system holds against a core of a process: the soft limit and the hard one."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4:6] for line in lines if line.startswith("Max core file size"))


def owner(pid: int) -> int:
    """Whose the files are that tell of a process: the superuser's, where it may not be dumped."""
    return Path(f"/proc/{pid}/maps").stat().st_uid


@pytest.mark.parametrize("number", DUMPS)
@pytest.mark.parametrize("tool", TOOLS)
async def test_a_gateway_that_crashes_leaves_no_core(folder: Path, tool: str, number: signal.Signals) -> None:
    """Beside any other program, which leaves one in the same folder; by the limit, and by the process's own word."""
    gateway = gateway_in(folder, tool)
    try:
        await gateway.start()
        process = gateway.process
        assert process is not None
        await gateway.wait_for("Pool p reloaded")  # mitmdump listens before it has loaded its script
        assert limits(process.pid) == ["0", "0"]
        assert not os.geteuid() or owner(process.pid) == 0
        gateway.send_signal(number)
        await process.wait()
        assert process.returncode == -number
        assert os.listdir(folder) == []
    finally:
        await gateway.__aexit__()


@pytest.mark.parametrize("number", DUMPS)
def test_any_other_program_would_leave_one(folder: Path, number: signal.Signals) -> None:
    """Else the test above would show nothing; where cores go elsewhere, or none may be written, it shows the limits."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")) or resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        pytest.skip("cores of this machine are not written where a program runs")
    ended = subprocess.run([sys.executable, "-c", CRASH, str(number.value)], cwd=folder, check=False)
    assert ended.returncode == -number
    assert [path.name.partition(".")[0] for path in folder.iterdir()] == [pattern.partition(".")[0]]
