"""The plugin that CONTRIBUTING shows: built, installed, tested by its own tests, and used by a real gateway."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.home import make_home, write_account
from support.mitmdump import Mitmdump
from support.upstream import Upstream

EXAMPLE = Path(__file__).parent / "example_plugin"
ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path, path: str = "") -> str:
    """Run Python in a process of its own and answer what it printed; the test fails when it does."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": path, "PIP_CONFIG_FILE": os.devnull}
    process = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def python_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH with the example on it, installed by pip from a wheel of its own, without a network."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    run("-m", "pip", "install", *options, "--target", str(folder / "installed"), str(source), cwd=folder)
    return os.pathsep.join(map(str, (folder / "installed", ROOT / "addon", ROOT / "plugins")))


def test_it_is_what_contributing_shows() -> None:
    """Word for word, and in under 30 lines."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for name in ("authpool_example.py", "test_authpool_example.py"):
        assert f"```python\n{(EXAMPLE / name).read_text('utf-8')}```" in text
    project = (EXAMPLE / "pyproject.toml").read_text("utf-8")
    assert '[project.entry-points.authpool]\nnewest = "authpool_example"\n' in text
    assert '[project.entry-points.authpool]\nnewest = "authpool_example"\n' in project
    assert len((EXAMPLE / "authpool_example.py").read_text("utf-8").splitlines()) < 30


def test_it_passes_the_kit_as_an_installed_package(python_path: str, tmp_path: Path) -> None:
    """Its own test file, run by pytest far from this checkout's tests."""
    test = shutil.copy(EXAMPLE / "test_authpool_example.py", tmp_path)
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), cwd=tmp_path, path=python_path)
    assert "passed" in printed


@pytest.mark.mitmproxy
async def test_a_real_gateway_uses_it(python_path: str, tmp_path: Path, confdir: Path, upstream: Upstream) -> None:
    """Found by its entry point: one account serves every request, until a newer one is there and does."""
    home = make_home(
        tmp_path,
        pools={"p": {"type": "static", "hosts": [upstream.authority], "rotation": "newest"}},
        accounts={f"p/{name}": {"token": {"access_token": name}} for name in ("alice", "bob", "carol")},
    )
    gateway = Mitmdump("-s", "addon/gateway.py", home=home, confdir=confdir, environment={"PYTHONPATH": python_path})
    async with gateway, httpx.AsyncClient(proxy=gateway.url) as api, asyncio.timeout(30):
        for _ in range(6):
            assert (await api.get(upstream.url)).status_code == 200
        assert len({request.bearer for request in upstream.received}) == 1
        write_account(home, "p/dave", {"token": {"access_token": "dave"}})
        while upstream.received[-1].bearer != "dave":
            await asyncio.sleep(0.05)
            await api.get(upstream.url)
        for _ in range(3):
            await api.get(upstream.url)
    assert [request.bearer for request in upstream.received[-3:]] == ["dave"] * 3
