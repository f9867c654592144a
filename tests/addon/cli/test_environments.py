"""The command line where little is as usual: a line that says what to do, and never a traceback."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from authpool.cli.scaffold import create_home
from authpool.errors import RefusedError
from authpool.files.home import home_folder
from support.home import make_home, read_account

ROOT = Path(__file__).parents[3]
SOURCES = f"{ROOT / 'addon'}:{ROOT / 'plugins'}"
ODD = "p/zoë@例え.example"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    pools = {"p": {"type": "static", "hosts": ["x.example"]}}
    return make_home(tmp_path, pools=pools, accounts={ODD: {"token": {"access_token": "t"}}})


def run(
    *arguments: str | bytes, stdin: bytes = b"", cwd: Path | None = None, **environment: str | None
) -> subprocess.CompletedProcess[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUTHPOOL_", "LC_", "PYTHON"))}
    wanted = {"PYTHONPATH": SOURCES, **environment}
    return subprocess.run(
        [sys.executable, "-m", "authpool", *arguments],
        check=False,
        capture_output=True,
        input=stdin,
        cwd=cwd,
        env=kept | {name: value for name, value in wanted.items() if value is not None},
    )


def one_line(ended: subprocess.CompletedProcess[bytes], words: str, status: int = 1) -> None:
    """It ended with this status, and said one line with these words on standard error."""
    err = ended.stderr.decode(errors="replace")
    assert (ended.returncode, ended.stdout) == (status, b""), err
    assert words in err, err
    assert err.startswith("authpool: ")
    assert len(err.splitlines()) == 1, err


# --- where the home is -----------------------------------------------------------------------------------------------


def test_a_user_who_does_not_exist() -> None:
    """In the option and in the environment."""
    one_line(run("--home", "~nobody-of-that-name/x", "accounts"), "there is no user nobody-of-that-name; say where")
    one_line(run("accounts", AUTHPOOL_HOME="~nobody-of-that-name/x"), "there is no user nobody-of-that-name; say where")


def test_a_user_without_a_home(tmp_path: Path) -> None:
    """Neither HOME nor a line in the list of users: a container's usual."""
    code = "import os; os.getuid = lambda: 2**31 - 5; import authpool.cli.main as m; m.main()"
    command = [sys.executable, "-c", code, "accounts"]
    environment = {"PYTHONPATH": SOURCES, "PATH": os.environ["PATH"]}
    ended = subprocess.run(command, check=False, capture_output=True, env=environment)
    one_line(ended, "HOME is not set, and this user has no home folder; say where the home is, with --home DIR")
    with pytest.raises(RefusedError, match="NUL"):
        home_folder("a\x00b", {})


@pytest.mark.parametrize("verb", ("accounts", "init", "reload", "plugins", "history", "mitmdump"))
def test_a_file_in_the_place_of_the_home(tmp_path: Path, verb: str) -> None:
    """It is named, and left alone."""
    file = tmp_path / "file"
    file.write_text("mine")
    ended = run(verb, AUTHPOOL_HOME=str(file))
    if verb not in {"plugins", "history"}:  # they need nothing of a home
        one_line(ended, str(file))
    assert b"Traceback" not in ended.stderr
    assert file.read_text() == "mine"


@pytest.mark.parametrize("verb", ("accounts", "init", "reload"))
def test_a_home_below_a_file(tmp_path: Path, verb: str) -> None:
    """The same."""
    (tmp_path / "file").write_text("mine")
    one_line(run("--home", str(tmp_path / "file" / "home"), verb), str(tmp_path / "file" / "home"))


def test_a_relative_home_is_where_it_is_run(tmp_path: Path) -> None:
    """In the option and in the environment; an empty one is none."""
    assert run("init", AUTHPOOL_HOME="here", cwd=tmp_path).returncode == 0
    assert (tmp_path / "here" / "authpool.toml").exists()
    ended = run("init", AUTHPOOL_HOME="", HOME=str(tmp_path))
    assert ended.returncode == 0
    assert (tmp_path / ".authpool" / "authpool.toml").exists()


def test_a_working_directory_that_is_gone(tmp_path: Path, home: Path) -> None:
    """An absolute home does not need it; a relative one can't be told."""
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"cd {gone} && rmdir {gone} && exec {sys.executable} -P -m authpool --home"

    def there(name: str) -> subprocess.CompletedProcess[bytes]:
        gone.mkdir(exist_ok=True)
        environment = os.environ | {"PYTHONPATH": SOURCES}
        return subprocess.run(
            ["/bin/sh", "-c", f"{words} {shlex.quote(name)} accounts"],
            check=False,
            capture_output=True,
            env=environment,
        )

    assert there(str(home)).returncode == 0
    one_line(there("home"), "give it as an absolute path")


def test_the_configuration_is_named_with_its_folder(home: Path) -> None:
    """For people and for scripts: they may have several homes."""
    (home / "authpool.toml").write_text("[pools.p]\nhots = []\n")
    one_line(run("--home", str(home), "accounts"), f"{home}/authpool.toml: pools.p.hots: ")
    told = json.loads(run("--home", str(home), "accounts", "--json").stdout)
    assert told["ok"] is False
    assert told["error"].startswith(f"{home}/authpool.toml: ")


# --- standard input and output ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdin", "words"),
    (
        ("token".encode("utf-16"), "UTF-16"),
        ("token".encode("utf-16-be"), ""),
        (b"\xfe\xff\x00t\x00o", "UTF-16"),
        (b"\x80\x81\x82", "not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8 text"),
        (b"x" * (2 << 20), "longer than 1 MiB"),
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
    ),
    ids=("utf-16", "utf-16-be without a mark", "utf-16-be", "bytes", "png", "long", "empty", "mark alone"),
)
def test_what_is_no_text_on_standard_input(home: Path, stdin: bytes, words: str) -> None:
    """What was sent is repeated nowhere."""
    ended = run("--home", str(home), "add", "p", "-", "new", stdin=stdin)
    if words:
        one_line(ended, words)
    else:
        assert ended.returncode == 0, ended.stderr
        assert read_account(home, "p/new")["token"]["access_token"] == "token"


def test_a_mark_before_a_credential_is_dropped(home: Path) -> None:
    """Windows editors write one."""
    assert run("--home", str(home), "add", "p", "-", "new", stdin=b"\xef\xbb\xbfsecret\r\n").returncode == 0
    assert read_account(home, "p/new")["token"]["access_token"] == "secret"


def closed(home: Path, arguments: str, redirections: str) -> subprocess.CompletedProcess[bytes]:
    command = f"exec {sys.executable} -m authpool --home {home} {arguments} {redirections}"
    environment = os.environ | {"PYTHONPATH": SOURCES}
    return subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True, env=environment)


def test_closed_streams(home: Path) -> None:
    """A secret can't be read from nothing, nor an answer be shown nowhere; what needs neither is done."""
    one_line(closed(home, "add p - new", "<&-"), "standard input is closed")
    one_line(closed(home, "accounts", ">&-"), "standard output is closed")
    one_line(closed(home, f"remove {ODD}", "<&-"), "say --yes")
    assert closed(home, f"pause {ODD}", "<&- >&- 2>&-").returncode == 0
    assert read_account(home, ODD)["proxy_disabled"] is True
    assert closed(home, "accounts", ">&- 2>&-").returncode == 1
    assert closed(home, "accounts --json", "2>&-").returncode == 0
    one_line(closed(home, "accounts", ">/dev/full"), "standard output")
    assert b"Traceback" not in closed(home, "accounts", "| head -c 0").stderr


@pytest.mark.parametrize(
    "environment",
    (
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ),
    ids=str,
)
def test_a_terminal_that_knows_few_characters(home: Path, environment: dict[str, str]) -> None:
    """Names are shown as far as it can show them, understood as they were typed, and refused by name."""
    at = ("--home", str(home))
    shown = run(*at, "accounts", **environment)
    assert shown.returncode == 0, shown.stderr
    assert b"example" in shown.stdout
    paused = run(*at, "pause", ODD.encode(), **environment)
    assert paused.returncode == 0, paused.stderr
    assert read_account(home, ODD)["proxy_disabled"] is True
    assert run(*at, "history", ODD.encode(), **environment).returncode == 0
    assert run(*at, "add", "p", "-", "größe".encode(), stdin=b"s", **environment).returncode == 0
    assert read_account(home, "p/größe")["token"]["access_token"] == "s"
    one_line(run(*at, "pause", "p/größer".encode(), **environment), "there is no account")


def test_an_argument_that_is_no_text(home: Path) -> None:
    """Wrong usage."""
    ended = run("--home", str(home), "pause", b"p/\xff\xfe")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"is not UTF-8 text" in ended.stderr


def test_a_home_whose_name_is_no_text(tmp_path: Path) -> None:
    """A folder may be called anything."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    create_home(Path(name))
    assert run("--home", os.fsencode(name), "accounts").returncode == 0
    (Path(name) / "authpool.toml").write_text("[")
    one_line(run("--home", os.fsencode(name), "accounts"), "authpool.toml")
