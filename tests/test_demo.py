"""`python -m authpool.demo` as people run it: a process of its own, in a temporary folder that the test owns."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

PROVIDER_IS_MISSING = "the demo's provider is missing: pip install oidc-provider-mock (the extra `demo`)"
STORY = (
    "$ authpool add demo @alice.json",
    "Added demo/alice@example.com",
    "Added demo/bob@example.com",
    "200 alice   200 bob   200 alice   200 bob",
    "200 bob   200 bob   200 bob   200 bob",
    "Disabling account demo/alice@example.com due to invalid_grant: refresh token likely revoked or expired",
    "disabled = true",
    'disabled_reason = "invalid_grant: ',
    "Re-added demo/alice@example.com",
    "Account demo/alice@example.com re-enabled: new refresh token",
    "Authorization: Bearer [authpool]",
    "demo/bob@example.com attempts=2 outcome=200 rotation=round_robin",
)
"""What the output says, in this order."""

_LONG_WORD = re.compile(r"[A-Za-z0-9_.-]{36,}")  # the provider's shortest token has 42 characters
_ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.mitmproxy
needs_provider = pytest.mark.skipif(importlib.util.find_spec("oidc_provider_mock") is None, reason=PROVIDER_IS_MISSING)


class Demo:
    """A running demo. Its temporary folder is made in `folder`; `children` are those it had at the last look."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        paths = [str(_ROOT / "addon"), str(_ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TMPDIR": str(folder),
            "HTTP_PROXY": "http://127.0.0.1:9",  # nobody listens there: whoever honoured it would fail
            "AUTHPOOL_HOME": str(folder / "somebody-elses"),
        }
        self.lines: list[str] = []
        self.children: list[int] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "authpool.demo", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def read_until(self, words: str) -> str:
        """Read on to the line that holds these words, and answer it; the test's own time limit is the deadline."""
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip())
            if words in line:
                self._look_at_children()
                return line.rstrip()
        pytest.fail(f"the demo never said {words!r}:\n{self.text}")

    def read_to_the_end(self) -> int:
        """Read the rest, and answer the exit status."""
        self.lines += [line.rstrip() for line in self.process.stdout or ()]
        return self.process.wait()

    def end(self) -> None:
        """Leave nothing behind, however the test went."""
        for pid in (self.process.pid, *self.children):
            if self.process.poll() is None or pid != self.process.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _look_at_children(self) -> None:
        tasks = Path(f"/proc/{self.process.pid}/task")
        self.children = [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    """Where a test puts the demos it starts, so that they end with it."""
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.end()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_story(text: str) -> None:
    at = 0
    for words in STORY:
        assert words in text[at:], f"{words!r} is missing, or comes too early:\n{text}"
        at = text.index(words, at)


def assert_in_order_and_quiet(text: str) -> None:
    assert_story(text)
    numbers = [int(match[1]) for match in re.finditer(r"^ ?(\d+)  [A-Z]", text, re.MULTILINE)]
    assert numbers == list(range(1, 10))
    assert "Traceback" not in text
    assert "\x1b" not in text  # a pipe is no terminal


@needs_provider
def test_the_story_holds_and_leaves_nothing(tmp_path: Path, demos: list[Demo]) -> None:
    """`--once` tells the whole story, ends with status 0, and leaves no process, no file and no token in sight."""
    demos.append(demo := Demo(tmp_path, "--once"))
    demo.read_until("Disabling account")
    children = demo.children
    status = demo.read_to_the_end()
    assert status == 0, demo.text
    assert_in_order_and_quiet(demo.text)
    assert not _LONG_WORD.findall(demo.text)
    assert children
    assert not [pid for pid in children if is_alive(pid)]
    assert not list(tmp_path.iterdir())


@needs_provider
def test_ctrl_c_ends_it_quietly(tmp_path: Path, demos: list[Demo]) -> None:
    """It stays up with links that work; Ctrl-C then ends it with status 0 and leaves no process and no file."""
    demos.append(demo := Demo(tmp_path))
    demo.read_until("What to look at next")
    link = demo.read_until("mitmweb ").split()[-1]
    request = demo.read_until("a request ").split()[-1]
    home = Path(demo.read_until("the files ").split()[-1])
    demo.read_until("Ctrl-C ends everything")
    opener = build_opener(ProxyHandler({}))
    assert b"mitmproxy" in opener.open(link).read()
    assert opener.open(request).read().startswith(b"Served for ")
    tokens = [tomllib.loads(path.read_text())["token"] for path in home.glob("accounts/demo/*.toml")]
    secrets = [token[key] for token in tokens for key in ("access_token", "refresh_token")]

    demo.process.send_signal(signal.SIGINT)

    assert demo.read_to_the_end() == 0, demo.text
    assert_in_order_and_quiet(demo.text)
    assert len(secrets) == 4
    assert not [secret for secret in secrets if secret in demo.text]
    assert demo.children
    assert not [pid for pid in demo.children if is_alive(pid)]
    assert not list(tmp_path.iterdir())


@needs_provider
def test_ctrl_c_half_way_leaves_nothing(tmp_path: Path, demos: list[Demo]) -> None:
    """Ctrl-C while things start ends it as a shell expects (130), without a traceback, a process or a file."""
    demos.append(demo := Demo(tmp_path, "--once"))
    demo.read_until("All of it runs on this machine")
    demo.process.send_signal(signal.SIGINT)
    assert demo.read_to_the_end() == 130
    assert "Traceback" not in demo.text
    assert not [pid for pid in demo.children if is_alive(pid)]
    assert not list(tmp_path.iterdir())


@needs_provider
def test_failure_half_way_is_told_and_leaves_nothing(tmp_path: Path, demos: list[Demo]) -> None:
    """When the gateway dies in the middle, one line says at which step, the status is 1, and nothing is left."""
    demos.append(demo := Demo(tmp_path, "--once"))
    demo.read_until("Add accounts")
    for pid in demo.children:
        if "mitmweb" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    assert demo.read_to_the_end() == 1
    assert re.fullmatch(r"The demo failed at step [23], .+: .+", demo.lines[-1])
    assert "Traceback" not in demo.text
    assert not list(tmp_path.iterdir())


def test_missing_extra_is_one_sentence(tmp_path: Path) -> None:
    """Without the provider's package the demo says so in one line, with the command that installs it."""
    program = (
        "import runpy, sys; sys.modules['oidc_provider_mock'] = None; "
        "runpy.run_module('authpool.demo', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(_ROOT / "addon"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "-m pip install oidc-provider-mock" in done.stderr
    assert not list(tmp_path.iterdir())
