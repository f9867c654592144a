"""Every command block of README and addon/docs is run as it stands, or says right before it why not.

Before a block may stand ``<!-- not run: WHY -->``, ``<!-- run by tests/FILE -->`` or, before TOML, ``<!-- excerpt: WHY
-->``. After ``<!-- runs until it is stopped -->`` each line is started by itself, and ended once it listens.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from authpool.config import load_config
from authpool.plugins.manager import load_plugins
from support.operator import Desk, open_desk

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "addon" / "docs").glob("*.md"))]
SECRETS = {"GOOGLE_CLIENT_SECRET": "a", "WEBHOOK_SECRET": "b", "AUTHPOOL_DSN": "c"}
START_SECONDS = 45.0

_FENCE = re.compile(r"^(?:<!-- (?P<note>.*?) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]*))?\)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: what it is said to be (``sh``, ``toml``, ...), and what the comment before it says."""

    kind: str
    text: str
    note: str
    line: int

    @property
    def skipped(self) -> bool:
        return self.note.startswith(("not run: ", "run by ", "excerpt: "))


def blocks(document: Path, *kinds: str) -> Iterator[Block]:
    text = document.read_text("utf-8")
    for match in _FENCE.finditer(text):
        if match["kind"] in kinds:
            line = text.count("\n", 0, match.start("text"))
            yield Block(kind=match["kind"], text=match["text"], note=match["note"] or "", line=line)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every file that is linked to is there, and so is the heading."""
    for match in _LINK.finditer(document.read_text("utf-8")):
        target = (document.parent / match["path"]).resolve() if match["path"] else document
        assert target.exists(), match[0]
        if match["anchor"]:
            assert match["anchor"] in anchors(target), match[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_block_is_marked_as_one(document: Path) -> None:
    """A block without a kind is output or a picture: no line of it begins with a command."""
    for block in blocks(document, ""):
        assert not re.search(r"^(authpool|mitm\w+|make|curl|pip|git|systemctl) ", block.text, re.MULTILINE), block.line
    for block in blocks(document, "sh", "toml"):
        if block.note.startswith("run by "):
            assert (ROOT / re.findall(r"tests/[\w./]+", block.note)[0]).exists(), block.note


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_configurations_are_accepted(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each TOML block is a configuration as it stands."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    plugins = load_plugins(tmp_path, SECRETS)
    for block in blocks(document, "toml"):
        if block.skipped:
            continue
        (tmp_path / "authpool.toml").write_text(block.text)
        config = load_config(tmp_path, SECRETS, plugins)
        for pool in config.pools.values():
            plugins.rotation(pool)
        plugins.token_sources(config.pools)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
async def test_commands_do_what_they_say(document: Path, tmp_path: Path) -> None:
    """The blocks of a document in their order, in one home whose pool `google` asks a provider on this machine."""
    async with open_desk(tmp_path) as desk:
        (tmp_path / ".authpool").symlink_to(desk.home)
        provide_files(desk, tmp_path)
        for block in blocks(document, "sh"):
            if block.skipped:
                continue
            if block.note == "runs until it is stopped":
                for line in block.text.splitlines():
                    await start_and_stop(line, tmp_path)
            else:
                await run(block, tmp_path)


def provide_files(desk: Desk, folder: Path) -> None:
    """What the documents take for granted: files with credentials of people who have signed in."""
    for name in ("alice", "bob", "new"):
        response = desk.provider.issue("alice@example.com" if name == "new" else f"{name}@example.com")
        for path, text in ((f"{name}.json", json.dumps(response)), (f"{name}.token", response["refresh_token"])):
            (folder / path).write_text(text)
            (folder / path).chmod(0o600)
    (folder / "key.txt").write_text("a-static-secret")
    (folder / "client.json").write_text(json.dumps({"client_id": "service-1", "client_secret": "its-secret"}))
    for path in ("key.txt", "client.json"):
        (folder / path).chmod(0o600)
    (folder / "addon").symlink_to(ROOT / "addon")


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTHPOOL_")}
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    sources = os.pathsep.join([str(ROOT / "addon"), str(ROOT / "plugins")])
    return kept | SECRETS | {"PATH": paths, "HOME": str(folder), "PYTHONPATH": sources, "PYTHONUNBUFFERED": "1"}


async def run(block: Block, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-o", "pipefail", "-c", block.text),
        cwd=folder,
        env=environment(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"line {block.line}:\n{block.text}\n{out.decode()}"


async def start_and_stop(line: str, folder: Path) -> None:
    """Start what a line starts, on ports of its own, and end it once it listens."""
    command = line.partition("#")[0].rstrip()
    own = f"--listen-port {free_port()} --set confdir={folder}/mitmproxy"
    if "mitmweb" in command:
        own += f" --web-port {free_port()} --set web_open_browser=false"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{command} {own}"),
        cwd=folder,
        env=environment(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    said = b""
    assert process.stdout is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while b"listening at" not in said and (more := await process.stdout.readline()):
                said += more
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    await process.communicate()
    assert b"listening at" in said, f"{line}\n{said.decode()}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
