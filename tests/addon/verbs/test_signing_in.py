"""Signing in: an account is added or taken back from the code exchange, and from nobody else's."""

import asyncio
import base64
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from authpool.errors import AuthpoolError, RefusedError, StoreError
from authpool.files.atomic_file import FileOperations
from authpool.oauth.authorization import AuthorizationRequest
from authpool.oauth.device_authorization import DeviceCode
from authpool.verbs.sources import read_source
from support.answers import JSON, Reset, Slow
from support.exchange import Answer, Request
from support.operator import Desk, open_desk, process
from support.ports import free_port
from support.token_endpoint import ScriptedTokenEndpoint

ALICE = "google/alice@example.com"
BOB = "google/bob@example.com"


class Browser:
    """A person whose browser comes back with what `answers` says; what it showed at last is `page`."""

    def __init__(self, answers: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
        self.answers = answers
        self.request: AuthorizationRequest | None = None
        self.port = 0
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.doubts: list[str] = []
        self.warnings: list[str] = []
        self.headless: str | None = None
        self.code: DeviceCode | None = None
        self.shown = asyncio.Event()
        self._coming: asyncio.Task[str] | None = None

    def show(self, request: AuthorizationRequest, port: int) -> None:
        self.request, self.port = request, port
        asked = {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}
        answer = self.answers(asked)
        if answer is not None:
            self._coming = asyncio.create_task(_get(f"{request.redirect_uri}?{urlencode(answer)}"))
        self.shown.set()

    def why_headless(self) -> str | None:
        return self.headless

    def show_code(self, code: DeviceCode) -> None:
        self.code = code
        self.shown.set()

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    async def pasted(self) -> str:
        return await self.lines.get()

    def doubt(self, why: str) -> None:
        self.doubts.append(why)

    async def page(self) -> str:
        """What the browser shows in the end."""
        assert self._coming is not None
        return await self._coming


async def _get(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
        return (await client.get(url)).text


def signs_in(desk: Desk, account: str, **more: Any) -> Browser:
    """Somebody signs in, and the token response has `more` in it; `nonce` is that of an id_token of theirs."""

    def answers(asked: dict[str, str]) -> dict[str, str]:
        beside = dict(more)
        if "nonce" in beside or "nonce" in asked:
            claims = {"iss": "https://x", "aud": asked["client_id"], "exp": 4e9, "nonce": asked.get("nonce")}
            named = {"sub": f"id-of-{account}", "email": account}
            beside["id_token"] = jwt({**claims, **named, **beside.pop("claims", {})})
        return {"state": asked["state"], "code": desk.provider.code(account, asked["code_challenge"], **beside)}

    return Browser(answers)


def jwt(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".x"


def nobody() -> Browser:
    """Somebody who does not sign in."""
    return Browser(lambda asked: None)


async def test_who_signs_in_is_added_without_another_refresh(tmp_path: Path) -> None:
    """The pair of the code exchange is the account's; the page and the answer say who."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        browser = signs_in(desk, "alice@example.com")
        assert await desk.operations.login("google", None, browser) == f"Added {ALICE}"
        assert f"Added {ALICE}." in await browser.page()
        stored = desk.stored(ALICE)
        assert desk.provider.is_current(stored["token"]["refresh_token"])
        assert stored["token"]["access_token"] in desk.provider
        assert stored["subject"] == "id-of-alice@example.com"
        assert [post.form["grant_type"] for post in desk.token_endpoint.received] == ["authorization_code"]
        assert desk.token_endpoint.received[0].form["redirect_uri"] == browser.request.redirect_uri  # type: ignore[union-attr]
        assert desk.unclaimed == []


async def test_a_disabled_account_is_taken_back_and_a_paused_one_stays_so(tmp_path: Path) -> None:
    """`disabled*` is cleared; what the operator switched off is told."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        desk.edit(
            ALICE, disabled=True, disabled_at=1_700_000_000, disabled_reason="invalid_grant: x", proxy_disabled=True
        )
        answer = await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        assert answer.startswith(f"Re-added {ALICE} with a new credential; it was disabled (invalid_grant: x)")
        assert "it is still paused" in answer
        stored = desk.stored(ALICE)
        assert not stored["disabled"]
        assert "disabled_reason" not in stored
        assert stored["proxy_disabled"]


async def test_a_provider_that_gives_the_same_refresh_token_again_takes_it_back(tmp_path: Path) -> None:
    """It has just issued it: that is as good as a new one."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        for _ in range(2):
            browser = signs_in(desk, "alice@example.com", refresh_token="always-this-one")
            await desk.operations.login("google", None, browser)
            desk.edit(ALICE, disabled=True, disabled_reason="invalid_grant: x")
        answer = await desk.operations.login(
            "google", None, signs_in(desk, "alice@example.com", refresh_token="always-this-one")
        )
        assert "is enabled again" in answer
        assert not desk.stored(ALICE)["disabled"]


async def test_a_running_gateway_follows(tmp_path: Path) -> None:
    """What another process signed in is served here."""
    async with open_desk(tmp_path, sign_in={}) as desk, process(desk, running=True) as gateway:
        await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        async with asyncio.timeout(20):
            while not [row for row in await gateway.accounts() if row.name == "alice@example.com"]:
                await asyncio.sleep(0.05)


# --- what changes nothing -----------------------------------------------------------------------------------------


async def changes_nothing(desk: Desk, browser: Browser, match: str, name: str | None = None, **more: Any) -> None:
    """The sign-in is refused, on the page too, and the home is as it was."""
    before = {path: path.read_bytes() for path in (desk.home / "accounts").rglob("*.toml")}
    with pytest.raises(AuthpoolError, match=match) as refused:
        await desk.operations.login("google", name, browser, **more)
    assert {path: path.read_bytes() for path in (desk.home / "accounts").rglob("*.toml")} == before
    assert desk.unclaimed == []
    secrets = [browser.request.state, browser.request.verifier] if browser.request is not None else []
    assert not any(secret in str(refused.value) for secret in secrets)
    if browser._coming is not None:
        assert "Not signed in" in await browser.page()


async def test_somebody_else_than_name_changes_nothing(tmp_path: Path) -> None:
    """The answer says who came."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        browser = signs_in(desk, "alice@example.com")
        await changes_nothing(desk, browser, "alice@example.com signed in, not bob@example.com", "bob@example.com")


async def test_another_subject_under_a_name_changes_nothing(tmp_path: Path) -> None:
    """Two people of one e-mail address: the first one's token is not written over."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        desk.userinfo.claims = {"sub": "another"}
        await changes_nothing(desk, signs_in(desk, "alice@example.com"), "another subject")


@pytest.mark.parametrize(
    ("sign_in", "remedy"),
    (
        ({}, 'add the scope "offline_access" to `scopes`, or'),
        ({"scopes": ["openid", "offline_access"]}, r'authorize_params = \{ prompt = "consent" \}'),
        ({"scopes": ["offline_access"], "authorize_params": {"prompt": "consent"}}, "see which scope, parameter"),
        ({"preset": "microsoft"}, 'add the scope "offline_access" to `scopes`$'),
        ({"preset": "salesforce"}, 'add the scope "refresh_token" to `scopes`$'),
        ({"preset": "google"}, "see which scope, parameter"),
        ({"preset": "google", "authorize_params": {"prompt": ""}}, 'prompt = "consent"'),
    ),
)
async def test_without_a_refresh_token_nothing_is_written(tmp_path: Path, sign_in: dict[str, Any], remedy: str) -> None:
    """The answer says what this provider wants for one, as far as that is known."""
    async with open_desk(tmp_path, sign_in=sign_in) as desk:
        issuers = {"google": "accounts.google.com", "microsoft": "https://login.microsoftonline.com/t/v2.0"}
        claims = {"claims": {"iss": issuers.get(sign_in.get("preset", ""), "x"), "tid": "t"}}
        browser = signs_in(desk, "alice@example.com", refresh_token=None, **claims)
        await changes_nothing(desk, browser, f"gave no refresh token.*pools.google: .*{remedy}")


async def test_nobody_in_time_changes_nothing_and_frees_the_port(tmp_path: Path) -> None:
    """And what comes after that comes to nobody."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        browser = nobody()
        await changes_nothing(desk, browser, "nobody signed in within 0.05 s", timeout_seconds=0.05)
        again = nobody()
        await changes_nothing(desk, again, "nobody signed in", timeout_seconds=0.05, port=browser.port)
        assert again.port == browser.port


async def test_who_is_interrupted_before_the_code_changes_nothing(tmp_path: Path) -> None:
    """The port is free at once."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        browser = nobody()
        login = asyncio.create_task(desk.operations.login("google", None, browser))
        await browser.shown.wait()
        login.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await login
        assert "Nothing was changed" in cancelled.value.__notes__
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", browser.port)


async def test_who_is_interrupted_after_the_code_lands_it(tmp_path: Path) -> None:
    """The code is spent: what came of it is written, and the note says so."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        asked, answer_it = asyncio.Event(), asyncio.Event()

        def slowly(number: int, form: dict[str, str]) -> Any:
            asked.set()
            return Slow(answer_it, desk.provider(number, form))

        desk.token_endpoint.script = slowly
        browser = signs_in(desk, "alice@example.com")
        login = asyncio.create_task(desk.operations.login("google", None, browser))
        await asked.wait()
        login.cancel()
        await asyncio.sleep(0)
        login.cancel()
        answer_it.set()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await login
        assert f"It was done before that: Added {ALICE}" in cancelled.value.__notes__
        assert f"Added {ALICE}." in await browser.page()
        assert desk.provider.is_current(desk.stored(ALICE)["token"]["refresh_token"])


@pytest.mark.parametrize(
    ("answer", "match"),
    (
        (JSON(400, {"error": "invalid_grant"}), "does not take the code"),
        (JSON(401, {"error": "invalid_client"}), "rejects the client"),
        (JSON(503, {}), "no token came from the token endpoint"),
        (JSON(200, {"token_type": "Bearer"}), "lost on the way"),
    ),
)
async def test_a_token_endpoint_that_says_no_changes_nothing(tmp_path: Path, answer: JSON, match: str) -> None:
    """Nor does it disable an account, or begin a storm."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        for _ in range(5):
            desk.token_endpoint.script = lambda number, form: answer
            await changes_nothing(desk, signs_in(desk, "alice@example.com"), match)
        desk.token_endpoint.script = desk.provider
        assert "Refreshed" in await desk.operations.refresh(ALICE)


async def test_an_answer_that_is_lost_is_told(tmp_path: Path) -> None:
    """A code is good for once: only another sign-in helps."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        desk.provider.lose_next("after_rotation", Reset())
        await changes_nothing(desk, signs_in(desk, "alice@example.com"), "lost on the way.*sign in again")


@pytest.mark.parametrize(("claim", "value"), (("nonce", "another"), ("aud", "another"), ("exp", 1)))
async def test_an_id_token_of_another_sign_in_changes_nothing(tmp_path: Path, claim: str, value: Any) -> None:
    """Not even where userinfo would name somebody."""
    async with open_desk(tmp_path, sign_in={"scopes": ["openid"]}) as desk:
        browser = signs_in(desk, "alice@example.com", claims={claim: value})
        await changes_nothing(desk, browser, rf"id_token .*\(`{claim}`\)")


async def test_the_id_token_names_who_signed_in(tmp_path: Path) -> None:
    """Where there is no userinfo."""
    async with open_desk(tmp_path, userinfo=False, sign_in={"scopes": ["openid"]}) as desk:
        assert await desk.operations.login("google", None, signs_in(desk, "alice@example.com")) == f"Added {ALICE}"


async def test_a_provider_that_tells_no_names_is_asked_for_one_first(tmp_path: Path) -> None:
    """Before anybody signs in; with NAME it works."""
    async with open_desk(tmp_path, userinfo=False, sign_in={}) as desk:
        await changes_nothing(desk, nobody(), "will not tell who signed in: .*authpool login google NAME")
        assert await desk.operations.login("google", "carol", signs_in(desk, "x")) == "Added google/carol"


async def test_pools_that_nobody_can_sign_in_to(tmp_path: Path) -> None:
    """It is said before anything is opened."""
    async with open_desk(tmp_path) as desk:
        await changes_nothing(desk, nobody(), "neither `authorize_url` nor `device_url` of google is configured")
        for pool in ("keys", "service"):
            with pytest.raises(RefusedError, match="nobody signs in to"):
                await desk.operations.login(pool, None, nobody())


async def test_an_access_that_was_declined_is_told(tmp_path: Path) -> None:
    """The state is right, so the sign-in is over."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        browser = Browser(lambda asked: {"state": asked["state"], "error": "access_denied"})
        await changes_nothing(desk, browser, "declined at the provider")


async def test_strays_do_not_end_the_wait(tmp_path: Path) -> None:
    """The one that comes after them does."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        browser = nobody()
        login = asyncio.create_task(desk.operations.login("google", None, browser))
        await browser.shown.wait()
        request = browser.request
        assert request is not None
        for target in ("", "?code=x", "?code=x&state=y", "?error=access_denied"):
            assert "still waits" in await _get(f"{request.redirect_uri}{target}")
        good = signs_in(desk, "alice@example.com")
        good.show(request, browser.port)
        assert await login == f"Added {ALICE}"


async def test_the_address_or_the_code_can_be_pasted(tmp_path: Path) -> None:
    """What is neither is told, and the next line counts."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        for whole in (True, False):
            browser = nobody()
            login = asyncio.create_task(desk.operations.login("google", None, browser))
            await browser.shown.wait()
            request = browser.request
            assert request is not None
            asked = {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}
            code = desk.provider.code("alice@example.com", asked["code_challenge"])
            browser.lines.put_nowait("what is this")
            browser.lines.put_nowait(
                f"{request.redirect_uri}?{urlencode({'state': request.state, 'code': code})}" if whole else code
            )
            assert "dded google/alice@example.com" in await login
            assert len(browser.doubts) == 1


async def test_two_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each has its port, its state and its account; the same account is written one after the other."""
    async with open_desk(tmp_path, sign_in={}) as desk, process(desk) as other:
        answers: list[Awaitable[str]] = [
            desk.operations.login("google", None, signs_in(desk, "alice@example.com")),
            other.login("google", None, signs_in(desk, "bob@example.com")),
            desk.operations.login("google", None, signs_in(desk, "bob@example.com")),
        ]
        assert sorted(one[:5] for one in await asyncio.gather(*answers)) == ["Added", "Added", "Re-ad"]
        for address in (ALICE, BOB):
            assert desk.provider.is_current(desk.stored(address)["token"]["refresh_token"])


# --- what must not be lost ----------------------------------------------------------------------------------------


class FullDisk(FileOperations):
    """System calls of a disk that is full for accounts while `full` is set."""

    full = False

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().create(path)


async def test_what_can_not_be_written_is_kept(tmp_path: Path) -> None:
    """And the answer says where, and how to go on."""
    disk = FullDisk()
    async with open_desk(tmp_path, files=disk, sign_in={}) as desk:
        disk.full = True
        with pytest.raises(StoreError, match="go on with: authpool add google @") as failed:
            await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        disk.full = False
        [kept] = desk.unclaimed
        assert str(kept) in str(failed.value)
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])


@pytest.mark.parametrize("device", (True, False))
async def test_a_refresh_token_without_an_access_token_is_kept(tmp_path: Path, *, device: bool) -> None:
    """It reached us: an `add` of it brings the rest."""
    async with device_desk(tmp_path, JSON(200, CODE)) as (desk, _):
        grant = desk.provider.issue("alice@example.com")
        desk.token_endpoint.script = [JSON(200, {"refresh_token": grant["refresh_token"], "token_type": "Bearer"})]
        with pytest.raises(RefusedError, match=r"without an access token.*go on with: authpool add google @"):
            await desk.operations.login("google", None, signs_in(desk, "alice@example.com"), device=device)
        [kept] = desk.unclaimed
        desk.token_endpoint.script = desk.provider
        assert await desk.operations.add("google", read_source(f"@{kept}", environ={})) == f"Added {ALICE}"
        assert desk.unclaimed == []


async def test_what_came_is_on_disk_before_anybody_is_asked_whose_it_is(tmp_path: Path) -> None:
    """A process that is killed just then loses nothing; afterwards it is in the account alone."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        ask, on_disk = desk.userinfo.answer, list[str]()

        async def answer(request: Request) -> Answer:
            on_disk.extend(json.loads(path.read_text())["refresh_token"] for path in desk.unclaimed)
            return await ask(request)

        desk.userinfo.answer = answer  # type: ignore[method-assign]
        await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        assert on_disk == [desk.stored(ALICE)["token"]["refresh_token"]]
        assert desk.unclaimed == []


async def test_a_userinfo_that_is_down_loses_nothing(tmp_path: Path) -> None:
    """Who it was can't be told now, and can be later."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        desk.userinfo.answered = JSON(503, {})
        with pytest.raises(RefusedError, match=r"userinfo endpoint can't be asked.*go on with: authpool add"):
            await desk.operations.login("google", None, signs_in(desk, "alice@example.com"))
        assert len(desk.unclaimed) == 1


async def test_the_token_of_another_account_is_refused(tmp_path: Path) -> None:
    """One credential in two records dies of it: in another pool, and under another name."""
    async with open_desk(tmp_path, more_pools=("second",), sign_in={}) as desk:
        await desk.operations.login("google", None, signs_in(desk, "alice@example.com", refresh_token="one"))
        with pytest.raises(RefusedError, match=f"is the one of {ALICE}"):
            await desk.operations.login("second", None, signs_in(desk, "alice@example.com", refresh_token="one"))
        await changes_nothing(desk, signs_in(desk, "bob@example.com", refresh_token="one"), f"that {ALICE} has")


# --- on another device --------------------------------------------------------------------------------------------


@asynccontextmanager
async def device_desk(folder: Path, *answers: Answer, **more: Any) -> AsyncIterator[tuple[Desk, ScriptedTokenEndpoint]]:
    """A pool with a device endpoint, which gives these answers."""
    async with (
        ScriptedTokenEndpoint(list(answers)) as device,
        open_desk(folder, sign_in={"device_url": device.url, **more}) as desk,
    ):
        yield desk, device


CODE = {"device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": "https://example.com", "interval": 1}


@pytest.mark.parametrize("chosen", (True, False))
async def test_who_has_no_browser_here_signs_in_on_another_device(tmp_path: Path, *, chosen: bool) -> None:
    """By itself where none can be started; the account is written as ever, and no port is opened."""
    async with device_desk(tmp_path, JSON(200, CODE)) as (desk, _):
        pending = [JSON(400, {"error": "authorization_pending"}), JSON(200, desk.provider.issue("alice@example.com"))]
        desk.token_endpoint.script = pending
        person = nobody()
        person.headless = None if chosen else "this is a session over ssh"
        assert await desk.operations.login("google", None, person, device=chosen) == f"Added {ALICE}"
        assert person.code is not None
        assert person.code.user_code == "WDJB-MJHT"
        assert person.request is None
        assert desk.provider.is_current(desk.stored(ALICE)["token"]["refresh_token"])


async def test_a_client_that_may_not_do_that_goes_on_with_a_browser(tmp_path: Path) -> None:
    """Where it was chosen by itself; who asked for it is told."""
    refused = JSON(400, {"error": "unauthorized_client"})
    async with device_desk(tmp_path, refused, refused) as (desk, _):
        person = signs_in(desk, "alice@example.com")
        person.headless = "there is no display"
        assert await desk.operations.login("google", None, person) == f"Added {ALICE}"
        assert "(unauthorized_client): it goes on with a browser" in person.warnings[0]
        with pytest.raises(RefusedError, match="unauthorized_client"):
            await desk.operations.login("google", None, person, device=True)


async def test_a_port_that_is_named_means_a_browser(tmp_path: Path) -> None:
    """Who has opened a tunnel for it wants that."""
    async with device_desk(tmp_path) as (desk, device):
        person = signs_in(desk, "alice@example.com")
        person.headless = "this is a session over ssh"
        assert await desk.operations.login("google", None, person, port=free_port()) == f"Added {ALICE}"
        assert device.received == []


async def test_a_pool_without_a_device_endpoint_says_so(tmp_path: Path) -> None:
    """Before anything is begun."""
    async with open_desk(tmp_path, sign_in={}) as desk:
        with pytest.raises(RefusedError, match="no `device_url` of google"):
            await desk.operations.login("google", None, nobody(), device=True)


async def test_nobody_enters_the_code_in_time(tmp_path: Path) -> None:
    """The time that the operator allows ends it as well."""
    async with device_desk(tmp_path, JSON(200, CODE)) as (desk, _):
        with pytest.raises(RefusedError, match=r"nobody signed in within 0.05 s: nothing was changed"):
            await desk.operations.login("google", None, nobody(), device=True, timeout_seconds=0.05)


async def test_an_interrupt_while_a_code_is_waited_for_changes_nothing(tmp_path: Path) -> None:
    """And says so."""
    async with device_desk(tmp_path, JSON(200, CODE)) as (desk, _):
        person = nobody()
        login = asyncio.create_task(desk.operations.login("google", None, person, device=True))
        await person.shown.wait()
        login.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await login
        assert "Nothing was changed" in cancelled.value.__notes__
