"""The operator's verbs inside a running mitmproxy."""

import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from mitmproxy import exceptions

from authpool.proxy.addon import Gateway
from authpool.proxy.commands import Commands
from support.gateway import Mitmdump, RunningGateway, dump_master
from support.home import make_home, read_account, token_table, write_account
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

VERBS = {
    "add",
    "login",
    "login.answer",
    "accounts",
    "history",
    "clients",
    "plugins",
    "reload",
    "move",
    "pause",
    "resume",
    "enable",
    "refresh",
} | {"remove"}


@pytest.fixture
def home(tmp_path: Path, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint, upstream: Upstream) -> Path:
    upstream.accept(rotating)
    pool = {"token_url": token_endpoint.url, "client_id": "client", "hosts": [upstream.authority]}
    pool |= {"authorize_url": f"{token_endpoint.server.url}/authorize"}
    accounts = {f"p/{name}": {"token": token_table(rotating.issue(name))} for name in ("alice", "bob")}
    return make_home(tmp_path, pools={"p": pool}, accounts=accounts)


@pytest.fixture
async def gateway(home: Path, confdir: Path, upstream: Upstream) -> AsyncIterator[RunningGateway]:
    addon = Gateway()
    async with dump_master(
        addon, Commands(addon), home=home, confdir=confdir, mode=f"reverse:{upstream.url}"
    ) as running:
        yield running


def run(gateway: RunningGateway, line: str) -> object:
    return gateway.master.commands.execute(line)  # type: ignore[no-untyped-call]


async def told(gateway: RunningGateway, words: str) -> None:
    """Wait until the log says so."""
    await gateway.wait_until(lambda: any(words in message for message in gateway.messages))


def states(gateway: RunningGateway) -> dict[str, str]:
    table = run(gateway, "authpool.accounts")
    assert isinstance(table, list)
    return {row[1]: row[2] for row in table[1:]}


async def test_every_verb_of_the_contract_is_there(gateway: RunningGateway) -> None:
    """With a line of help each, as the operator reads it."""
    commands = {n: c for n, c in gateway.master.commands.commands.items() if n.startswith("authpool.")}
    assert set(commands) == {f"authpool.{verb}" for verb in VERBS}
    assert all(command.help for command in commands.values())


async def test_accounts_are_shown_with_what_they_served(gateway: RunningGateway) -> None:
    """The running gateway knows how many requests each account served."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(4):
            assert (await client.get(gateway.url)).status_code == 200
    table = run(gateway, "authpool.accounts")
    assert isinstance(table, list)
    header, *rows = table
    served = {row[header.index("NAME")]: row[header.index("SERVED")] for row in rows}
    assert served == {"alice": "2", "bob": "2"}


async def test_pause_and_resume(gateway: RunningGateway, home: Path) -> None:
    """A paused account leaves the running pool and its file says so; resume undoes it."""
    run(gateway, "authpool.pause p/alice")
    await told(gateway, "Paused p/alice")
    await gateway.wait_until(lambda: states(gateway)["alice"] == "paused")
    assert read_account(home, "p/alice")["proxy_disabled"] is True
    run(gateway, "authpool.resume p/alice")
    await gateway.wait_until(lambda: states(gateway)["alice"] == "ready")
    assert read_account(home, "p/alice")["proxy_disabled"] is False


async def test_history_tells_what_the_gateway_did(gateway: RunningGateway) -> None:
    """As a table, of all accounts or of one; a word that is no POOL/NAME is refused."""
    for verb in ("pause p/alice", "pause p/bob", "resume p/alice"):
        run(gateway, f"authpool.{verb}")
        await told(gateway, f"{verb.partition(' ')[0].capitalize()}d {verb.partition(' ')[2]}")
    shown = run(gateway, "authpool.history p/alice")
    assert isinstance(shown, list)
    header, *rows = shown
    assert header[:4] == ["TIME", "EVENT", "ACCOUNT", "PROCESS"]
    assert [row[1:4] for row in rows] == [[word, "p/alice", f"gateway {os.getpid()}"] for word in ("paused", "resumed")]
    everything = run(gateway, "authpool.history")
    assert isinstance(everything, list)
    assert len(everything) == 4
    with pytest.raises(exceptions.CommandError, match="POOL/NAME"):
        run(gateway, "authpool.history alice")


async def test_adding_again_revives_a_dead_account(
    gateway: RunningGateway, home: Path, tmp_path: Path, rotating: RotatingProvider
) -> None:
    """Dead by a refresh, refused with the same token, back with a new one, in the running pool."""
    rotating.revoke("alice")
    run(gateway, "authpool.refresh p/alice")
    await gateway.wait_until(lambda: states(gateway)["alice"] == "disabled")
    run(gateway, "authpool.enable p/alice")
    await told(gateway, "authpool: ")
    assert states(gateway)["alice"] == "disabled"
    source = tmp_path / "alice.json"
    source.touch(mode=0o600)
    source.write_text(json.dumps(rotating.issue("alice")))
    run(gateway, f"authpool.add p @{source} alice")
    await told(gateway, "Account p/alice re-enabled: new refresh token")
    await gateway.wait_until(lambda: states(gateway)["alice"] == "ready")
    assert read_account(home, "p/alice").get("disabled", False) is False


async def test_a_secret_as_an_argument_is_refused(gateway: RunningGateway, rotating: RotatingProvider) -> None:
    """And not repeated, for mitmproxy keeps what was typed as it is."""
    secret = rotating.issue("carol")["refresh_token"]
    with pytest.raises(exceptions.CommandError) as refused:
        run(gateway, f"authpool.add p {secret} carol")
    assert secret not in str(refused.value)
    assert set(states(gateway)) == {"alice", "bob"}


async def test_remove(gateway: RunningGateway) -> None:
    """The account is gone from the pool; the others serve on."""
    run(gateway, "authpool.remove p/alice")
    await gateway.wait_until(lambda: set(states(gateway)) == {"bob"})


async def test_reload_tells_how_the_pool_stands(gateway: RunningGateway) -> None:
    """The line operators look for."""
    before = len([m for m in gateway.messages if m == "Pool p reloaded: 2 ready"])
    run(gateway, "authpool.reload")
    await gateway.wait_until(lambda: len([m for m in gateway.messages if m == "Pool p reloaded: 2 ready"]) > before)


@pytest.mark.parametrize("line", ("authpool.pause p/nobody", "authpool.refresh q/alice"))
async def test_a_wrong_name_is_told(line: str, gateway: RunningGateway) -> None:
    """At once as a doubt, and in the log as an error with a remedy."""
    answer = run(gateway, line)
    assert isinstance(answer, str)
    assert "is in no pool as far as this gateway knows" in answer
    await gateway.wait_until(
        lambda: any(r.levelname == "ERROR" and "authpool: " in r.getMessage() for r in gateway.log)
    )


@pytest.mark.parametrize("verb", ("pause", "resume", "enable", "refresh", "remove"))
async def test_what_is_no_address_is_refused_at_once(verb: str, gateway: RunningGateway) -> None:
    """The answer says what an address is, and where to find one."""
    with pytest.raises(exceptions.CommandError, match=r"POOL/NAME: authpool\.accounts lists every"):
        run(gateway, f"authpool.{verb} nobody")


async def test_a_pool_that_is_not_configured_is_refused_at_once(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those that are."""
    monkeypatch.setenv("CREDENTIAL", "a-refresh-token")
    with pytest.raises(exceptions.CommandError, match="no pool q; there are: p"):
        run(gateway, "authpool.add q env:CREDENTIAL alice")


async def test_every_verb_answers_at_once(gateway: RunningGateway, tmp_path: Path, rotating: RotatingProvider) -> None:
    """Success too: what is under way, and where to look for what comes of it; `add` says how long that may take."""
    source = tmp_path / "carol.json"
    source.touch(mode=0o600)
    source.write_text(json.dumps(rotating.issue("carol")))
    lines = {
        "pause p/alice": "Pausing p/alice",
        "resume p/alice": "Resuming p/alice",
        "enable p/alice": "Enabling p/alice",
        "refresh p/bob": "Refreshing p/bob",
        f"add p @{source} carol": "Adding to p: the token endpoint has up to 23 s",
        "reload": "Reloading",
        "remove p/bob": "Removing p/bob",
    }
    for line, words in lines.items():
        answer = run(gateway, f"authpool.{line}")
        assert isinstance(answer, str)
        assert answer.startswith(words)
        assert answer.endswith("The event log says what comes of it")
    for words in ("Added p/carol", "Removed p/bob"):
        await told(gateway, words)


async def test_the_verbs_in_mitmweb(home: Path, confdir: Path, upstream: Upstream) -> None:
    """The command bar reaches them, behind its password and its XSRF check."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        web_port = probe.getsockname()[1]
    script = str(Path(__file__).parents[3] / "addon" / "gateway.py")
    mitmweb = Mitmdump(
        *("-s", script, "--mode", f"reverse:{upstream.url}", "--no-web-open-browser"),
        *("--web-port", str(web_port), "--set", "web_password=sesame"),
        home=home,
        confdir=confdir,
        tool="mitmweb",
    )
    async with mitmweb, httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{web_port}") as web:
        await mitmweb.wait_for("Pool p reloaded: 2 ready")
        assert (await web.post("/commands/authpool.accounts", json={"arguments": []})).status_code == 403
        web.headers["Authorization"] = "Bearer sesame"
        assert (await web.post("/commands/authpool.accounts", json={"arguments": []})).status_code == 403
        web.headers["X-XSRFToken"] = "0123456789abcdef"  # header and cookie agree, as with its own page
        for cookie in ("_mitmproxy_xsrf", "_xsrf"):  # the name depends on the release
            web.cookies[cookie] = "0123456789abcdef"
        paused = await web.post("/commands/authpool.pause", json={"arguments": ["p/alice"]})
        assert paused.status_code == 200, paused.text
        assert paused.json()["value"] == "Pausing p/alice. The event log says what comes of it"  # what its bar shows
        await mitmweb.wait_for("Paused p/alice")
        events = (await web.get("/events")).json()
        told = [event["level"] for event in events if event["message"].endswith("Paused p/alice")]
        assert told == ["info"]  # one of the levels that its event log has
        wrong = await web.post("/commands/authpool.pause", json={"arguments": ["alice"]})
        assert "POOL/NAME" in wrong.json()["error"]
        reloaded = await web.post("/commands/authpool.reload", json={"arguments": []})
        assert reloaded.json()["value"].startswith("Reloading")
        shown = await web.post("/commands/authpool.accounts", json={"arguments": []})
        assert {row[1]: row[2] for row in shown.json()["value"][1:]} == {"alice": "paused", "bob": "ready"}


async def test_moving_and_enabling_by_force(
    gateway: RunningGateway, home: Path, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint
) -> None:
    """An account of a pool that is gone is shown, and moved in; `force` enables without a request."""
    token = token_table(rotating.issue("carol"))
    write_account(home, "former/carol", {"token": token, "disabled": True, "disabled_reason": "by mistake"})
    run(gateway, "authpool.reload")
    await told(gateway, "Pool former is not configured, and the home holds 1 account")
    await gateway.wait_until(lambda: "carol" in states(gateway))
    run(gateway, "authpool.move former/carol p")
    await told(gateway, "Moved former/carol to p/carol")
    assert states(gateway)["carol"] == "disabled"
    posts = len(token_endpoint.received)
    with pytest.raises(exceptions.CommandError, match="force"):
        run(gateway, "authpool.enable p/carol now")
    run(gateway, "authpool.enable p/carol force")
    await told(gateway, "Enabled p/carol without a refresh")
    assert len(token_endpoint.received) == posts
    await gateway.wait_until(lambda: states(gateway)["carol"] == "ready")


async def test_all_of_a_pool_in_the_prompt(gateway: RunningGateway) -> None:
    """Each is told of; nobody can be asked here, so that a verb that takes something away takes one account."""
    assert run(gateway, "authpool.pause p/*") == "Pausing p/*. The event log says what comes of it"
    await told(gateway, "p/*: 2 of 2 done")
    await gateway.wait_until(lambda: set(states(gateway).values()) == {"paused"})
    run(gateway, "authpool.resume p/al*")
    await told(gateway, "p/al*: 1 of 1 done")
    await gateway.wait_until(lambda: states(gateway) == {"alice": "ready", "bob": "paused"})
    run(gateway, "authpool.enable p/*")
    await told(gateway, "p/alice is not disabled")
    assert not any("ERROR" in message for message in gateway.messages)
    for line in ("remove p/*", "move p/* p"):
        with pytest.raises(exceptions.CommandError, match="takes one account"):
            run(gateway, f"authpool.{line}")


# --- signing in ---------------------------------------------------------------------------------------------------


async def address(gateway: RunningGateway, number: int = 1) -> str:
    """The address to sign in at that the log has, the first or a later one."""
    found: list[str] = []

    def there() -> bool:
        found[:] = [message for message in gateway.messages if "/authorize?" in message]
        return len(found) >= number

    await gateway.wait_until(there)
    return found[number - 1]


def comes_back(url: str, rotating: RotatingProvider, name: str) -> str:
    """Where the provider sends the browser of who signs in at `url`."""
    asked = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
    code = rotating.code(name, asked["code_challenge"])
    return f"{asked['redirect_uri']}?{urlencode({'state': asked['state'], 'code': code})}"


async def test_a_sign_in_is_told_in_the_log(gateway: RunningGateway, home: Path, rotating: RotatingProvider) -> None:
    """The address, and what came of it; of the code and where it came to nothing."""
    write_account(home, "p/alice", {"disabled": True, "disabled_reason": "invalid_grant", "token": {}})
    await gateway.wait_until(lambda: states(gateway)["alice"] == "disabled")
    answer = run(gateway, "authpool.login p alice")
    assert isinstance(answer, str)
    assert answer.startswith("Signing in to p")
    url = await address(gateway)
    back = comes_back(url, rotating, "alice")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "Re-added p/alice" in (await client.get(back)).text
    await told(gateway, "Re-added p/alice with a new credential")
    await gateway.wait_until(lambda: states(gateway)["alice"] == "ready")
    code = parse_qs(urlsplit(back).query)["code"][0]
    assert not any(code in message for message in gateway.messages)


async def test_the_answer_of_a_browser_elsewhere_is_given_by_a_command(
    gateway: RunningGateway, rotating: RotatingProvider
) -> None:
    """The address that it ended up at; of two sign-ins each takes its own."""
    with pytest.raises(exceptions.CommandError, match="no sign-in is under way"):
        run(gateway, "authpool.login.answer abc")
    for name in ("carol", "dave"):
        run(gateway, f"authpool.login p {name}")
    urls = [await address(gateway, number) for number in (1, 2)]
    with pytest.raises(exceptions.CommandError, match="more than one"):
        run(gateway, "authpool.login.answer abc")
    backs = [comes_back(url, rotating, name) for url, name in zip(urls, ("carol", "dave"), strict=True)]
    for back in reversed(backs):
        run(gateway, f"authpool.login.answer '{back}'")
    for name in ("carol", "dave"):
        await told(gateway, f"Added p/{name}")


async def test_a_sign_in_that_nobody_finishes_holds_no_ending_up(home: Path, confdir: Path, upstream: Upstream) -> None:
    """It ends with the gateway, says that nothing was changed, and the port is free."""
    addon = Gateway()
    async with dump_master(
        addon, Commands(addon), home=home, confdir=confdir, mode=f"reverse:{upstream.url}"
    ) as running:
        run(running, "authpool.login p alice")
        url = await address(running)
    assert any("Nothing was changed" in message for message in running.messages)
    assert not any("is cut off" in message for message in running.messages)
    port = urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0]).port
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port or 0)).close()
