"""What processes that hold credentials leave on a disk: nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from authpool.errors import RefusedError
from authpool.files.process_memory import KEY_LOGS, refuse_key_log
from support.command_line import authpool_on
from support.home import write_configuration

ASKED = (
    "import ctypes, resource; from authpool.files.process_memory import forbid_core_dumps; "
    "resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])); "
    "before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0); forbid_core_dumps(); "
    "print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"
)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_there_is_no_core_dump_and_nobody_reads_the_memory() -> None:
    """By the limit, for good; and by what the kernel says of the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    told = subprocess.run([sys.executable, "-c", ASKED], env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["1", "0", "0", "0"]


@pytest.mark.parametrize("name", KEY_LOGS)
def test_a_key_log_is_refused(name: str) -> None:
    """With the variable's name, and what to do; an empty one asks for nothing."""
    refuse_key_log({name: "", "OTHER": "x"})
    with pytest.raises(RefusedError, match=rf"^{name} is set.*Unset it$"):
        refuse_key_log({name: "keys.txt"})


@pytest.mark.parametrize("verb", ("mitmdump", "accounts"))
async def test_the_command_line_refuses_it_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """One line, and no file: Python's own TLS would write one as well."""
    write_configuration(tmp_path, pools={})
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.txt"))
    ended = await authpool_on(tmp_path, verb)
    assert ended.status == 1
    assert ended.err.startswith("authpool: SSLKEYLOGFILE is set")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "keys.txt").exists()


@pytest.mark.mitmproxy
def test_a_gateway_that_mitmproxy_loads_refuses_it_too(tmp_path: Path) -> None:
    """It ends with a line that names the variable."""
    tmp_path.chmod(0o700)
    write_configuration(tmp_path, pools={})
    script = Path(__file__).parents[3] / "addon" / "gateway.py"
    environment = {**os.environ, "AUTHPOOL_HOME": str(tmp_path), "SSLKEYLOGFILE": str(tmp_path / "keys.txt")}
    command = [str(Path(sys.executable).with_name("mitmdump")), "-s", str(script), "--listen-port", "0"]
    command += ["--set", f"confdir={tmp_path}/conf"]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "SSLKEYLOGFILE is set" in ended.stdout + ended.stderr
