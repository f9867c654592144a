"""Every command block of README and addon/docs is run as it stands, or says right before it why not.

Before a block may stand ``<!-- not run: WHY -->``, ``<!-- run by tests/FILE -->`` or, before TOML, ``<!-- excerpt: WHY
-->``. After ``<!-- runs until it is stopped -->`` each command is started by itself, and ended once it answers its
probe; what stands after ``<!-- beside a gateway -->`` is run while one is there.

And what can be looked up is: keys, commands, options, answers' codes, hooks and presets are mentioned, and what tables
quote as a line of the log, or as the reason of an account, is in the source.
"""

import ast
import asyncio
import dataclasses
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import httpx
import pytest

from authpool.cli.main import cli
from authpool.config import GatewayConfig, load_config
from authpool.config.answer_rule import MEANINGS
from authpool.config.pool_table import STANDARD_CODES, read_pool
from authpool.config.presets import PRESETS
from authpool.errors import ConfigurationError
from authpool.plugins import hookspecs
from authpool.plugins.manager import load_plugins
from authpool.proxy import options
from authpool.requests.refusals import CODES
from support.operator import Desk, open_desk
from support.ports import free_port

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "addon" / "docs").glob("*.md"))]
SECRETS = {"GOOGLE_CLIENT_SECRET": "a", "WEBHOOK_SECRET": "b", "SERVICE_CLIENT_SECRET": "c"}
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


def test_the_tests_that_security_md_names_are_there() -> None:
    """Each promise says which test shows it."""
    named = set(re.findall(r"`(tests/[^`]+)`", (ROOT / "SECURITY.md").read_text("utf-8")))
    assert len(named) > 10
    assert {name for name in named if not (ROOT / name).is_file()} == set()


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
        plugins.injectors(config.pools)


def test_the_plugins_that_are_shown_can_be_loaded(tmp_path: Path) -> None:
    """As files in a home."""
    (tmp_path / "plugins").mkdir()
    for number, shown in enumerate(blocks(ROOT / "addon" / "docs" / "plugins.md", "python")):
        (tmp_path / "plugins" / f"shown{number}.py").write_text(shown.text)
    rows = [row for row in load_plugins(tmp_path, {}).rows if row.name.startswith("shown")]
    assert [row.left_out for row in rows] == ["", ""]
    assert [row.hooks for row in rows] == [("authpool_account_event",), ("authpool_injection",)]


@pytest.mark.timeout(300)  # each line starts a program of its own
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
async def test_commands_do_what_they_say(document: Path, tmp_path: Path) -> None:
    """The blocks of a document in their order, in one home whose pool `google` asks a provider on this machine."""
    async with open_desk(tmp_path, more_pools=("team",)) as desk:
        (tmp_path / ".authpool").symlink_to(desk.home)
        provide_files(desk, tmp_path)
        provide_accounts(desk)
        for block in blocks(document, "sh"):
            if block.skipped:
                continue
            if block.note == "runs until it is stopped":
                for line in block.text.replace("\\\n", " ").splitlines():
                    async with started(line.partition("#")[0], tmp_path):
                        pass
            elif block.note == "beside a gateway":
                async with started("authpool mitmdump", tmp_path) as port:
                    await run(dataclasses.replace(block, text=block.text.replace(":8080", f":{port}")), tmp_path)
            else:
                await run(block, tmp_path)


@pytest.mark.timeout(120)
async def test_the_unit_starts_a_gateway(tmp_path: Path) -> None:
    """What the example for systemd starts, in another home."""
    (unit,) = blocks(ROOT / "addon" / "docs" / "operations.md", "ini")
    command = re.findall(r"^ExecStart=(.*)$", unit.text, re.MULTILINE)[0]
    async with open_desk(tmp_path) as desk:
        here = re.sub(r" --set confdir=\S+", "", command.replace("/opt/authpool/bin/", ""))
        here = here.replace("/var/lib/authpool", str(desk.home))
        async with started(here, tmp_path):
            pass


def provide_files(desk: Desk, folder: Path) -> None:
    """What the documents take for granted: files with credentials of people who have signed in."""
    token = {name: desk.provider.issue(f"{name}@example.com") for name in ("alice", "bob", "erin")}
    token["new"] = desk.provider.issue("alice@example.com")
    files = {f"{name}.json": json.dumps(response) for name, response in token.items()}
    files |= {f"{name}.token": response["refresh_token"] for name, response in token.items()}
    files["antigravity.json"] = json.dumps({"email": "erin@example.com", "token": token["erin"], "disabled": True})
    files |= {"key.txt": "a-static-secret", "secret.txt": "another-secret"}
    files["client.json"] = json.dumps({"client_id": "service-1", "client_secret": "its-secret"})
    for path, text in files.items():
        (folder / path).write_text(text)
        (folder / path).chmod(0o600)
    (folder / "addon").symlink_to(ROOT / "addon")


def provide_accounts(desk: Desk) -> None:
    """Accounts that were disabled, and whose grants live all the same."""
    for name in ("carol", "dave"):
        refresh_token = desk.provider.issue(f"{name}@example.com")["refresh_token"]
        told = {"disabled": True, "disabled_at": 1_700_000_000, "disabled_reason": "invalid_grant: a test's word"}
        desk.write(f"google/{name}@example.com", **told, token={"refresh_token": refresh_token})


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


@asynccontextmanager
async def started(command: str, folder: Path) -> AsyncIterator[int]:
    """Start a gateway on a port of its own, and end it; yields the port once it answers there."""
    port = free_port()
    own = f"--listen-port {port} --set confdir={folder}/mitmproxy"
    if "mitmweb" in command:
        own += f" --web-port {free_port()} --set web_open_browser=false"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{command.strip()} {own}"),
        cwd=folder,
        env=environment(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    said = asyncio.create_task(process.communicate())
    try:
        answers = await until_it_answers(f"http://127.0.0.1:{port}/live", said)
        if answers:
            yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        out, _ = await said
    assert answers, f"{command}\n{out.decode()}"


async def until_it_answers(url: str, ended: "asyncio.Task[object]") -> bool:
    """Ask a probe until it says 200; no, when the process has ended or takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(trust_env=False) as client:
            while not ended.done():
                with suppress(httpx.TransportError):
                    if (await client.get(url)).status_code == 200:
                        return True
                await asyncio.sleep(0.05)
    return False


# --- what can be looked up ------------------------------------------------------------------------------------


def spans(text: str) -> set[str]:
    """The words of a text in code spans and blocks, each by itself."""
    code = [match["text"] for match in _FENCE.finditer(text)] + re.findall(r"`([^`]+)`", _FENCE.sub("", text))
    return {word for part in code for word in re.findall(r"[\w.-]+", part)}


def written(name: str) -> str:
    return (ROOT / "addon" / "docs" / f"{name}.md").read_text("utf-8")


def test_every_code_of_an_error_is_explained() -> None:
    """Those that scripts get with --json."""
    package = ROOT / "addon" / "authpool"
    sources = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    codes = set(re.findall(r'error_code(?:: str)? ?= ?"([a-z_]+)"', sources))
    told = "".join(path.read_text("utf-8") for path in (package / "cli").glob("*.py"))
    codes |= set(re.findall(r'"code": "([a-z_]+)"', told))
    codes |= {"credential_rejected", "client_rejected", "provider_unavailable", "some_failed", "interrupted", "system"}
    assert {"usage", "unknown_account", "not_asked"} <= codes
    section = (ROOT / "addon" / "docs" / "operations.md").read_text("utf-8").partition("### Errors for scripts")[2]
    assert codes - spans(section.partition("\n### ")[0]) == set()


def test_every_key_of_the_configuration_is_explained() -> None:
    """Keys of pools, of their rules and of the gateway; presets, meanings and standard error codes."""
    with pytest.raises(ConfigurationError) as refused:
        read_pool("p", {"no_such_key_at_all": 1}, ROOT, {})
    keys = set(re.findall(r"\w+", str(refused.value).partition("Known here: ")[2]))
    assert {"hosts", "stream_types", "client_id"} <= keys
    keys |= {each.name for each in dataclasses.fields(GatewayConfig)} - {"store_options"}
    keys |= {"status", "header", "json", "equals", "means"} | set(MEANINGS) | set(PRESETS) | STANDARD_CODES
    assert keys - spans(written("configuration")) == set()


def test_every_command_and_option_is_explained() -> None:
    """Of the command line and of mitmproxy; `--help` is click's."""
    told = written("operations")
    assert isinstance(cli, click.Group)
    assert set(cli.commands) - spans(told) == set()
    parameters = [each for command in [cli, *cli.commands.values()] for each in command.params]
    switches = {name for each in parameters if isinstance(each, click.Option) for name in each.opts}
    assert {name for name in switches if name not in spans(told)} == set()
    loader = _Loader()
    options.add_options(loader, "")  # type: ignore[arg-type]
    assert "authpool_home" in loader.names
    assert loader.names - spans(written("configuration")) == set()


class _Loader:
    """Takes down which options an addon has."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_option(self, name: str, *_: object, **__: object) -> None:
        self.names.add(name)


def test_every_answer_and_every_hook_is_explained() -> None:
    """The codes of the gateway's own answers, and the hooks with an example each."""
    assert {f"| `{code}` |" for code in CODES if f"| `{code}` |" not in written("operations")} == set()
    hooks = {name for name in vars(hookspecs) if name.startswith("authpool_")}
    assert len(hooks) > 5
    assert {name for name in hooks if f"| `{name}(" not in written("plugins")} == set()


LOG_TABLES = ("log line", "reason", "you see")
FIXED_CHARACTERS = 12
"""So much of a line must be the source's own words, or values would do for anything."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_quoted_lines_are_in_the_source(document: Path) -> None:
    """What the first column of such a table quotes (``...`` stands for what is left out) is said somewhere."""
    for line in quoted_lines(document):
        assert any(_says(template, line) for template in templates()), f"{document.name}: {line}"


def test_a_line_that_nobody_says_is_noticed() -> None:
    """Or the test above would prove nothing."""
    assert any(_says(template, "Account p/n re-enabled: new refresh token") for template in templates())
    for line in (
        "Account p/n re-enabled: another token",
        "Disabling the account p/n due to x: ...",
        "Nobody says this",
    ):
        assert not any(_says(template, line) for template in templates()), line


def quoted_lines(document: Path) -> Iterator[str]:
    heading = ""
    for line in document.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            heading = ""
            continue
        first = line.split("|")[1].strip()
        heading = heading or first
        if heading in LOG_TABLES:
            yield from (span for span in re.findall(r"`([^`]+)`", first) if " " in span and "authpool " not in span[:9])


@cache
def templates() -> tuple[tuple[str, ...], ...]:
    """Every text of the source, as its fixed parts: what stands between the values that are put in."""
    found = set()
    for path in [*(ROOT / "addon" / "authpool").rglob("*.py"), *(ROOT / "plugins").glob("*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if id(node) in parts:
                continue
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(one.value) if isinstance(one, ast.Constant) else "\0" for one in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = re.sub(r"%[-.\d]*[sdrfga]", "\0", node.value)
            else:
                continue
            found.add(tuple(text.split("\0")))
    return tuple(found)


def _says(template: tuple[str, ...], line: str) -> bool:
    """Whether a line is what the template gives, or (with ``...`` at its end) how that begins."""
    cut, text = line.endswith("..."), line.removesuffix("...")
    found = 0  # characters that are the template's own, not a value's
    for number, part in enumerate(template):
        at = text.find(part) if number else 0 if text.startswith(part) else -1
        if at < 0:
            return cut and found >= FIXED_CHARACTERS and _is_begun(part, text)
        text, found = text[at + len(part) :], found + len(part)
    return found >= FIXED_CHARACTERS and (not text or cut or template[-1] == "")


def _is_begun(part: str, text: str) -> bool:
    """Whether a text is a value of a word or two, and the beginning of what follows it."""
    return any(part.startswith(text[at:]) and len(text[:at].split()) <= 2 for at in range(len(text) + 1))
