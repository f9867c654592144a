"""Ending the grant of an account that is removed: who is asked, as which client, and who lives on it as well."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import fingerprint
from authpool.errors import ConfigurationError, RefusedError
from authpool.gateway.service import Service
from authpool.oauth.token_client import TokenClient
from authpool.verbs.operations import Operations
from authpool.verbs.revocation import NO_ENDPOINT, TRIES
from support.answers import HTML, JSON, Hang, Redirect, Reset
from support.exchange import Answer
from support.home import write_configuration
from support.operator import Desk, open_desk
from support.token_endpoint import Form, ScriptedTokenEndpoint, TokenPost, refused_url

ALICE = "google/alice@example.com"
COPY = "google/copy"
REVOKED = f"Removed {ALICE}, and revoked its grant at the provider"
GRANT = {"refresh_token": "the-refresh-token"}


async def remove(
    folder: Path, answer: Answer, *, prepare: Callable[[Desk], object] = lambda desk: None, **how: Any
) -> tuple[str, list[Form]]:
    """Remove Alice, whose pool has a revocation endpoint that answers so: what is said, and what that was sent."""
    async with ScriptedTokenEndpoint([answer] * 5) as revocation, open_desk(folder, revoke_url=revocation.url) as desk:
        desk.write(ALICE, token=GRANT)
        prepare(desk)
        try:
            said = await desk.operations.remove(ALICE, **how)
            assert not desk.file_of(ALICE).exists()
        except RefusedError as refused:
            said = str(refused)
            assert desk.file_of(ALICE).exists() == (not said.startswith("Removed"))
        return said, [post.form for post in revocation.received]


async def test_the_grant_is_revoked(tmp_path: Path) -> None:
    """With the refresh token, which ends all that was issued with it."""
    said, (form,) = await remove(tmp_path, JSON(200, {}))
    assert said == REVOKED
    assert form["token"] == "the-refresh-token"
    assert form["token_type_hint"] == "refresh_token"


async def test_it_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    """Nobody is asked anything."""
    assert await remove(tmp_path, JSON(200, {}), keep_grant=True) == (f"Removed {ALICE}", [])


@pytest.mark.parametrize(
    ("answer", "asked"),
    (
        (JSON(503, {}), TRIES),
        (Reset(), TRIES),
        (JSON(400, {"error": "unsupported_token_type"}), 1),
        (JSON(401, {"error": "invalid_client"}), 1),
        (Redirect("http://127.0.0.1/"), 1),
        (HTML(404), 1),
    ),
)
async def test_what_does_not_work_is_said(tmp_path: Path, answer: Answer, asked: int) -> None:
    """The account is removed all the same, and no secret is in the message; what may pass is tried again."""
    said, forms = await remove(tmp_path, answer)
    assert said.startswith(f"Removed {ALICE}, but its grant at the provider lives on: ")
    assert "the-refresh-token" not in said
    assert len(forms) == asked


async def test_an_endpoint_that_is_down_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    """A grant may be revoked twice, so nothing is lost by that (RFC 7009 §2.2.1)."""
    answers = [JSON(503, {}), Reset(), JSON(200, {})]
    async with ScriptedTokenEndpoint(answers) as revocation, open_desk(tmp_path, revoke_url=revocation.url) as desk:
        desk.write(ALICE, token=GRANT)
        assert await desk.operations.remove(ALICE) == REVOKED


async def test_an_endpoint_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """In the time that a token endpoint has."""
    answers = [Hang()] * TRIES
    async with ScriptedTokenEndpoint(answers) as revocation, open_desk(tmp_path, revoke_url=revocation.url) as desk:
        desk.write(ALICE, token=GRANT)
        desk.service.endpoint = TokenClient(answer_seconds=0.1)
        with pytest.raises(RefusedError, match=r"^Removed .* lives on: the revocation endpoint did not answer"):
            await desk.operations.remove(ALICE)
        assert not desk.file_of(ALICE).exists()


async def test_nobody_listens(tmp_path: Path) -> None:
    """Said as it is."""
    with refused_url() as url:
        async with open_desk(tmp_path, revoke_url=url) as desk:
            desk.write(ALICE, token=GRANT)
            with pytest.raises(RefusedError, match=r"can't be reached .connection refused"):
                await desk.operations.remove(ALICE)


async def test_a_grant_that_was_at_its_end_before(tmp_path: Path) -> None:
    """Google says so with an error; nothing is left to revoke."""
    said, _ = await remove(tmp_path, JSON(400, {"error": "invalid_token"}))
    assert said == f"Removed {ALICE}, whose grant was at its end already, as the provider says"


async def test_a_provider_without_a_revocation_endpoint(tmp_path: Path) -> None:
    """The account is removed, and that its grant lives on is said; nothing failed."""
    async with open_desk(tmp_path) as desk:
        desk.write(ALICE, token=GRANT)
        assert await desk.operations.remove(ALICE) == f"Removed {ALICE}; {NO_ENDPOINT}"


@pytest.mark.parametrize(
    ("address", "document"),
    (
        ("keys/team", {"token": {"access_token": "k"}}),
        ("service/ci", {"client": {"client_id": "c", "client_secret": "s"}}),
        (ALICE, {"token": {"access_token": "a"}}),
        (ALICE, {}),
    ),
)
async def test_what_has_no_grant_has_none_to_revoke(tmp_path: Path, address: str, document: dict[str, Any]) -> None:
    """Nothing is said of one either."""
    async with ScriptedTokenEndpoint() as revocation, open_desk(tmp_path, revoke_url=revocation.url) as desk:
        desk.write(address, **document)
        assert await desk.operations.remove(address) == f"Removed {address}"


# --- which endpoint, which client ------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", (True, False))
async def test_the_endpoint_is_found_by_discovery(tmp_path: Path, published: bool) -> None:  # noqa: FBT001
    """RFC 8414: of an issuer that is an OAuth server and no OpenID provider, too; it may publish none."""
    async with ScriptedTokenEndpoint() as server:
        issuer = server.url.removesuffix("/token")
        endpoint = {"revocation_endpoint": f"{issuer}/revoke"} if published else {}
        metadata = {"issuer": issuer, "token_endpoint": server.url, **endpoint}
        answers = {"/.well-known/oauth-authorization-server": JSON(200, metadata), "/revoke": JSON(200, {})}
        targets: list[str] = []

        def answer(number: int, form: Form) -> Answer:
            targets.append(server.received[number].request.target)
            return answers.get(targets[-1], JSON(404, {}))

        server.script = answer
        async with open_desk(tmp_path) as desk:
            pool = {"issuer": issuer, "client_id": "the-client", "hosts": ["google.example"]}
            write_configuration(desk.home, pools={"google": pool})
            await desk.service.reload()
            desk.write(ALICE, token=GRANT)
            assert await desk.operations.remove(ALICE) == (REVOKED if published else f"Removed {ALICE}; {NO_ENDPOINT}")
    assert ("/revoke" in targets) == published


@pytest.mark.parametrize("method", ("client_secret_basic", "client_secret_post", "none"))
async def test_the_client_proves_itself(tmp_path: Path, method: str) -> None:
    """As it does at the token endpoint (RFC 7009 §2.1)."""
    (post,) = await posts_of(tmp_path, method)
    basic = f"Basic {base64.b64encode(b'the-client:the-secret').decode()}"
    in_header = next((value for name, value in post.request.headers if name.lower() == "authorization"), None)
    assert in_header == (basic if method == "client_secret_basic" else None)
    assert post.form.get("client_secret") == ("the-secret" if method == "client_secret_post" else None)
    assert post.form.get("client_id") == (None if method == "client_secret_basic" else "the-client")


async def test_an_account_with_a_client_of_its_own(tmp_path: Path) -> None:
    """Its grant is that client's."""
    (post,) = await posts_of(tmp_path, "client_secret_post", client={"client_id": "own", "client_secret": "its-own"})
    assert (post.form["client_id"], post.form["client_secret"]) == ("own", "its-own")


async def posts_of(folder: Path, method: str, **document: Any) -> list[TokenPost]:
    async with ScriptedTokenEndpoint([JSON(200, {})]) as revocation, open_desk(folder) as desk:
        secret = {} if method == "none" else {"client_secret": "the-secret"}
        pool = {"client_id": "the-client", "client_auth": method, "token_url": desk.token_endpoint.url, **secret}
        pool |= {"revoke_url": revocation.url, "hosts": ["google.example"]}
        write_configuration(desk.home, pools={"google": pool})
        await desk.service.reload()
        desk.write(ALICE, token=GRANT, **document)
        assert await desk.operations.remove(ALICE) == REVOKED
        return revocation.received


async def test_without_the_clients_secret_nothing_is_removed(tmp_path: Path) -> None:
    """It is known before that the provider can't be asked; with --keep-grant nobody is."""
    async with ScriptedTokenEndpoint() as revocation, open_desk(tmp_path) as desk:
        pool = {"client_id": "c", "client_secret": "env:NOWHERE", "token_url": desk.token_endpoint.url}
        write_configuration(desk.home, pools={"google": pool | {"revoke_url": revocation.url, "hosts": ["h.example"]}})
        async with command_line(desk) as operations:
            desk.write(ALICE, token=GRANT)
            with pytest.raises(ConfigurationError, match=r"NOWHERE is not set.*--keep-grant"):
                await operations.remove(ALICE)
            assert desk.file_of(ALICE).exists()
            assert await operations.remove(ALICE, keep_grant=True) == f"Removed {ALICE}"


@asynccontextmanager
async def command_line(desk: Desk) -> AsyncIterator[Operations]:
    """The verbs as a process of its own has them, with nothing in its environment."""
    service = Service(desk.home, {}, process="command line")
    try:
        await service.open()
        yield Operations(service)
    finally:
        await service.stop()


# --- who else lives on it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    ({"token": GRANT}, {"token": {"refresh_token": "its-successor"}, "added_from": "0b4f0f4a"}),
)
async def test_a_login_that_is_shared_is_not_revoked(tmp_path: Path, document: dict[str, Any]) -> None:
    """That would end the other account, too; nothing failed."""
    if "added_from" in document:
        document["added_from"] = f"00000000 {fingerprint('the-refresh-token')}"
    said, forms = await remove(tmp_path, JSON(200, {}), prepare=lambda desk: desk.write(COPY, **document))
    assert said == f"Removed {ALICE}. Its grant was not revoked: {COPY} holds the same login, and goes on with it"
    assert forms == []


async def test_by_force_it_is(tmp_path: Path) -> None:
    """Who knows that a login is in the wrong hands ends it for everybody."""
    said, forms = await remove(tmp_path, JSON(200, {}), prepare=lambda desk: desk.write(COPY, token=GRANT), force=True)
    assert (said, len(forms)) == (REVOKED, 1)


@pytest.mark.parametrize(
    ("pool", "told"),
    (("twin", "a login of the same person"), ("service", "")),
)
async def test_another_login_of_the_same_person(tmp_path: Path, pool: str, told: str) -> None:
    """Some providers end all that a person granted to a client when one of it is revoked (Google)."""
    async with ScriptedTokenEndpoint([JSON(200, {})]) as revocation:
        async with open_desk(tmp_path, revoke_url=revocation.url, more_pools=["twin"]) as desk:
            desk.write(ALICE, token=GRANT, subject="one")
            desk.write(f"{pool}/alice", token={"refresh_token": "another-login"}, subject="one")
            said = await desk.operations.remove(ALICE)
            assert told in said
            assert (said == REVOKED) == (not told)
        assert len(revocation.received) == (0 if told else 1)


@pytest.mark.parametrize(
    ("text", "outcome"),
    (
        ("[token\nrefresh_token = 'another-login'\n", "revoked"),
        ("[token\nrefresh_token = 'the-refresh-token'\n", "kept"),
        ("name = 7\n[token]\nrefresh_token = 'the-refresh-token'\n", "kept"),
        ("name = 7\nadded_from = 'MARK'\n[token]\nrefresh_token = 'x'\n", "kept"),
        ("[token\nadded_from = 'MARK'\nrefresh_token = 'x'\n", "kept"),
        ("name = 7\n", "revoked"),
        ("[token\nrefresh_token = 'half\n", "refused"),
        ("\x01\x02", "refused"),
    ),
)
@pytest.mark.parametrize("running", (True, False))
async def test_a_neighbour_that_is_broken(tmp_path: Path, text: str, outcome: str, running: bool) -> None:  # noqa: FBT001
    """What can be found in its record decides; where that may not be all, nothing is done before somebody says so."""
    async with (
        ScriptedTokenEndpoint([JSON(200, {})] * 2) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url, running=running) as desk,
    ):
        desk.write(ALICE, token=GRANT)
        desk.write(COPY).write_text(text.replace("MARK", fingerprint("the-refresh-token")))
        if outcome == "refused":
            with pytest.raises(RefusedError, match=f"nothing was removed.*{COPY} can't be read.*--force") as refused:
                await desk.operations.remove(ALICE)
            assert "half" not in str(refused.value)
            assert desk.file_of(ALICE).exists()
            assert revocation.received == []
            assert await desk.operations.remove(ALICE, force=True) == REVOKED
        else:
            said = await desk.operations.remove(ALICE)
            assert (said == REVOKED, COPY in said) == (outcome == "revoked", outcome == "kept")


async def test_a_neighbour_of_another_provider_has_no_say(tmp_path: Path) -> None:
    """Its grants are none of this provider's, whatever its record is like."""
    said, forms = await remove(
        tmp_path,
        JSON(200, {}),
        prepare=lambda desk: [desk.write(one).write_text("\x01") for one in ("keys/team", "service/ci")],
    )
    assert (said, len(forms)) == (REVOKED, 1)


async def test_a_neighbour_that_is_sealed(tmp_path: Path) -> None:
    """Without the key nobody can tell what it holds; a copy that can be opened is seen."""
    async with ScriptedTokenEndpoint([JSON(200, {})]) as revocation:
        async with open_desk(tmp_path, revoke_url=revocation.url) as desk:
            desk.write(ALICE, token=GRANT)
            desk.write(COPY).write_text('[token]\nsealed = "authpool1:0123456789abcdef:AAAA"\n')
            with pytest.raises(RefusedError, match=f"{COPY} can't be read .it is sealed"):
                await desk.operations.remove(ALICE)
        assert revocation.received == []
