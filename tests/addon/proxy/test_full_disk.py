"""A gateway whose own log is on a disk that is full."""

import asyncio
import errno
import io
import logging
import os
import socket
import sys
from pathlib import Path

import httpx
import pytest
from mitmproxy.addons.termlog import TermLogHandler

from authpool.proxy.full_disk import MISSING, survive_full_disk
from support.pool_rig import Rig

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")
FULL_FILE = Path("/dev/full")


class Disk(io.StringIO):
    """Raises `fault` while there is one."""

    fault: int | None = None

    def write(self, text: str) -> int:
        if self.fault is not None:
            raise OSError(self.fault, "no room")
        return super().write(text)


def test_what_there_is_no_room_for_is_lost_and_that_is_told_once_there_is() -> None:
    """One line tells of the gap, however many are missing, and everything after it is written."""
    disk = Disk()
    survive_full_disk(disk)
    survive_full_disk(disk)
    print("first", file=disk)
    disk.fault = errno.ENOSPC
    print("second", file=disk)
    print("third", file=disk)
    disk.fault = None
    print("fourth", file=disk)
    print("fifth", file=disk)
    assert disk.getvalue() == f"first\n{MISSING}fourth\nfifth\n"


@pytest.mark.parametrize("fault", (errno.EPIPE, errno.EIO))
def test_a_log_that_nobody_reads_ends_mitmproxy_as_ever(fault: int) -> None:
    """A closed pipe and a lost terminal don't come back."""
    disk = Disk()
    survive_full_disk(disk)
    disk.fault = fault
    with pytest.raises(OSError, match="no room"):
        print("first", file=disk)


@pytest.mark.mitmproxy
def test_mitmproxys_own_handler_does_not_end_the_process() -> None:
    """It exits where a line can't be printed."""
    disk = Disk()
    disk.fault = errno.ENOSPC
    survive_full_disk(disk)
    TermLogHandler(disk).emit(logging.makeLogRecord({"msg": "a line", "levelname": "INFO"}))


@pytest.mark.mitmproxy
@pytest.mark.skipif(not FULL_FILE.exists(), reason="only Linux has /dev/full")
async def test_a_gateway_serves_while_its_log_can_not_be_written(rig: Rig, confdir: Path, tmp_path: Path) -> None:
    """Its own lines and mitmproxy's for each flow fail; it goes on until it is told to end."""
    rig.home("alice")
    fill = tmp_path / "fill.py"
    fill.write_text(f"import os\ndef running():\n    os.dup2(os.open({str(FULL_FILE)!r}, os.O_WRONLY), 1)\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scripts = ("-s", SCRIPT, "-s", str(fill))
    options = ("-p", str(port), "--mode", f"reverse:{rig.upstream.url}")
    sets = ("--set", f"authpool_home={rig.path}", "--set", f"confdir={confdir}")
    tool = str(Path(sys.executable).with_name("mitmdump"))
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        tool, *scripts, *options, *sets, stdout=asyncio.subprocess.DEVNULL, env=unbuffered
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api:
            while process.returncode is None:
                try:
                    await api.get("/")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
            statuses = [(await api.get(f"/{number}")).status_code for number in range(5)]
        assert statuses == [200] * 5
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
