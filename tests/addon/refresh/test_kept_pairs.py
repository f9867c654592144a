"""A pair that arrived is never thrown away: through the whole refresh, and over real sockets."""

import asyncio
import errno
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

import pytest

from authpool.accounts.account import fingerprint
from authpool.errors import RefusedError, StoreError
from authpool.files.atomic_file import FileOperations
from authpool.oauth.token_client import MAX_BODY_BYTES, TokenClient
from authpool.oauth.verdict import Answer, PartlyGranted, Reply, ReplyLost, judge
from authpool.refresh.outcome import Dead, Ready, Unavailable
from support.answers import JSON, Hang, Raw
from support.clock import FakeClock
from support.exchange import Answer as WireAnswer
from support.exchange import Reply as Connection
from support.operator import open_desk
from support.token_endpoint import Form, ScriptedTokenEndpoint
from support.transport import INVALID_GRANT, Rig, reply


class FullDisk(FileOperations):
    """System calls of a disk that is full while `full` is set."""

    full = False

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().create(path)


type Spoil = Callable[[dict[str, object]], bytes]


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Rig:
    """An empty pool at a provider that rotates and punishes reuse."""
    return Rig(tmp_path / "accounts", clock)


def spoilt(rig: Rig, spoil: Spoil, *, lost: bool = False) -> Callable[[Mapping[str, str]], Answer]:
    """An answer for the script: the provider rotates, and this becomes of its pair on the way."""

    def answer(form: Mapping[str, str]) -> Answer:
        given = rig.transport.handle(form)
        assert isinstance(given, Reply)
        assert given.status == 200
        body = spoil(json.loads(given.body))
        return ReplyLost(detail="cut", status=200, body=body) if lost else Reply(status=200, body=body)

    return answer


def alone(pair: dict[str, object]) -> bytes:
    return json.dumps({"refresh_token": pair["refresh_token"]}).encode()


def cut_after_refresh_token(pair: dict[str, object]) -> bytes:
    return alone(pair)[:-1] + b', "access_tok'


def unusable(pair: dict[str, object]) -> bytes:
    return json.dumps({**pair, "access_token": "two words"}).encode()


@pytest.mark.parametrize(
    "spoil",
    (
        lambda pair: b'{"note": "\xe4\xf6", ' + json.dumps(pair).encode()[1:],
        lambda pair: urlencode(pair).encode(),
        lambda pair: json.dumps(pair).encode()[:-1],
        lambda pair: json.dumps({"data": pair}).encode(),
        lambda pair: json.dumps(pair).encode("utf-16"),
        lambda pair: json.dumps(pair).encode() + b" <!-- -->",
    ),
    ids=("latin-1", "form", "cut", "nested", "utf-16", "garbage"),
)
async def test_a_spoilt_pair_is_as_good_as_any(rig: Rig, spoil: Spoil) -> None:
    """One POST, and the account goes on."""
    account = await rig.add()
    rig.transport.script.append(spoilt(rig, spoil))
    assert isinstance(await rig.refresher.refresh(account), Ready)
    stored = rig.stored()
    assert rig.provider.is_current(stored.token.refresh_token or "")
    assert stored.token.access_token in rig.provider
    assert (stored.generation, stored.pending_refresh) == (account.generation + 1, None)
    assert len(rig.transport.posts) == 1


@pytest.mark.parametrize("lost", (False, True))
@pytest.mark.parametrize("spoil", (alone, unusable, cut_after_refresh_token))
async def test_a_refresh_token_that_came_alone_is_written_and_then_presented(
    rig: Rig, spoil: Spoil, *, lost: bool
) -> None:
    """Durably, under a new generation and with an intent of its own, before the second POST; the spent one never."""
    account = await rig.add()
    written = []
    rig.transport.meanwhile = lambda: written.append(rig.stored())
    rig.transport.script.append(spoilt(rig, spoil, lost=lost))
    outcome = await rig.refresher.refresh(account)
    assert isinstance(outcome, Ready)
    spent, renewed = rig.transport.presented
    assert spent == account.token.refresh_token
    before, between = written
    assert before.token == account.token
    assert between.token.refresh_token == renewed
    assert between.token.access_token is None
    assert between.generation == account.generation + 1
    assert between.pending_refresh is not None
    assert between.pending_refresh.fingerprint == fingerprint(renewed)
    assert rig.provider.is_current(rig.stored().token.refresh_token or "")
    assert rig.stored().token.access_token in rig.provider
    assert not rig.stored().disabled
    assert [event.kind for event in rig.events] == ["rotated", "rotated"]


async def test_what_comes_after_it_presents_the_new_one(rig: Rig, clock: FakeClock) -> None:
    """The second POST fails as well: nothing is lost, a token that lives goes on, and nobody is disabled."""
    account = await rig.add()
    account = await rig.put(replace(account, token=replace(account.token, expires_at=int(clock.time()) + 200)))
    rig.transport.script.extend([spoilt(rig, alone), reply(503)])
    outcome = await rig.refresher.refresh(account)
    assert isinstance(outcome, Unavailable)
    stored = rig.stored()
    assert outcome.account == replace(stored, pending_refresh=outcome.account.pending_refresh)
    assert stored.token.access_token == account.token.access_token
    assert stored.token.live(clock.time())
    assert rig.provider.is_current(stored.token.refresh_token or "")
    assert isinstance(await rig.refresher.refresh(account), Ready)
    assert len(set(rig.transport.presented)) == 2
    assert rig.transport.presented[1] == rig.transport.presented[2]


async def test_a_provider_that_never_gives_more_is_asked_twice_a_time(rig: Rig) -> None:
    """No loop in one refresh; and each new refresh token is kept."""
    account = await rig.add()
    rig.transport.script.extend([spoilt(rig, alone)] * 2)
    outcome = await rig.refresher.refresh(account)
    assert isinstance(outcome, Unavailable)
    assert outcome.account == rig.stored()
    assert len(rig.transport.posts) == 2
    assert rig.provider.is_current(rig.stored().token.refresh_token or "")


async def test_a_new_one_that_is_rejected_says_so(rig: Rig) -> None:
    """It never was lost: the reason is the provider's own."""
    account = await rig.add()
    rig.transport.script.extend([spoilt(rig, alone), INVALID_GRANT])
    outcome = await rig.refresher.refresh(account)
    if isinstance(outcome, Dead):  # else it is to be confirmed first
        assert (outcome.account.disabled_reason or "").startswith("invalid_grant")
    assert "rotation_lost" not in (rig.stored().disabled_reason or "")


async def test_while_the_disk_is_full_it_is_kept_in_memory_and_nothing_is_presented(rig: Rig, clock: FakeClock) -> None:
    """Neither the spent one, which is on disk, nor the new one, before it is there."""
    account = await rig.add()
    rig.transport.script.append(spoilt(rig, alone))
    rig.transport.meanwhile = lambda: setattr(rig.failing, "error", OSError(errno.ENOSPC, "full"))
    outcome = await rig.refresher.refresh(account)
    assert isinstance(outcome, Unavailable)
    rig.transport.meanwhile = None
    assert isinstance(await rig.refresher.refresh(account), Unavailable)
    assert len(rig.transport.posts) == 1
    rig.failing.error = None
    await clock.advance(10)
    assert isinstance(await rig.refresher.refresh(account), Ready)
    assert len(set(rig.transport.presented)) == len(rig.transport.presented) == 2
    assert rig.provider.is_current(rig.stored().token.refresh_token or "")
    await rig.refresher.aclose()


async def test_a_process_that_ends_between_the_two_leaves_nothing_to_doubt(rig: Rig) -> None:
    """The next one finds the new token with an intent, presents it, and gets a pair."""
    account = await rig.add()
    flight: list[asyncio.Task[object]] = []

    async def end_at_the_second_post() -> None:
        if len(rig.transport.posts) == 2:
            flight[0].cancel()
            await asyncio.sleep(0)

    rig.transport.script.append(spoilt(rig, alone))
    rig.transport.meanwhile = end_at_the_second_post
    flight.append(asyncio.ensure_future(rig.refresher._fly(account, None, "request")))
    await asyncio.gather(*flight, return_exceptions=True)
    rig.transport.meanwhile = None
    assert isinstance(await rig.process().refresh(account), Ready)
    assert account.token.refresh_token not in rig.transport.presented[1:]
    assert rig.provider.is_current(rig.stored().token.refresh_token or "")


# --- over real sockets ----------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Broken:
    """The head and a part of an answer, then the connection is broken off or says nothing more."""

    data: bytes
    then: WireAnswer | None = None

    async def play(self, connection: Connection) -> None:
        await connection.raw(self.data)
        if self.then is not None:
            await self.then.play(connection)
        else:
            await asyncio.sleep(0.05)  # so that it is read before the reset empties the client's buffer
            await connection.reset()


def chunked(body: bytes, *, end: bytes = b"") -> bytes:
    return HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body) + end


def sized(body: bytes, *, more: int = 0, headers: bytes = b"") -> bytes:
    return HEAD + headers + b"content-length: %d\r\n\r\n" % (len(body) + more) + body


def compressed(body: bytes) -> bytes:
    return sized(gzip.compress(body), headers=b"content-encoding: gzip\r\n")


WIRE: dict[str, Callable[[bytes], WireAnswer]] = {
    "chunked without the last chunk": lambda body: Raw(chunked(body)),
    "a chunk that was cut": lambda body: Raw(chunked(body)[:-3]),
    "a bad chunk after it": lambda body: Raw(chunked(body, end=b"no hex\r\n")),
    "shorter than it said": lambda body: Raw(sized(body, more=100)),
    "reset": lambda body: Broken(sized(body, more=100)),
    "silence": lambda body: Broken(sized(body, more=100), Hang()),
    "too long": lambda body: Raw(sized(body + b" " * (MAX_BODY_BYTES + 1))),
    "endless": lambda body: Raw(chunked(body, end=(b"10000\r\n" + b" " * 65536 + b"\r\n") * 40)),
    "gzip": lambda body: Raw(compressed(body)),
    "gzip without a header": lambda body: Raw(sized(gzip.compress(body))),
    "a header without gzip": lambda body: Raw(sized(body, headers=b"content-encoding: gzip\r\n")),
    "a header of a coding that is not known": lambda body: Raw(sized(body, headers=b"content-encoding: br\r\n")),
    "deflate": lambda body: Raw(sized(zlib.compress(body), headers=b"content-encoding: deflate\r\n")),
    "gzip that was cut": lambda body: Raw(compressed(body + b" " * 2000)[:-12]),
    "gzip with a bad sum": lambda body: Raw(compressed(body)[:-8] + b"12345678"),
    "gzip of a gigabyte": lambda body: Raw(compressed(body + b" " * 64 * MAX_BODY_BYTES)),
    "until the end of the connection": lambda body: Raw(HEAD + b"\r\n" + body),
    "latin-1": lambda body: Raw(sized(b'{"note": "\xfc", ' + body[1:])),
}  # fmt: skip


@pytest.fixture
async def client() -> AsyncIterator[TokenClient]:
    """A client that does not wait long."""
    client = TokenClient(connect_seconds=5, answer_seconds=0.5)
    yield client
    await client.aclose()


@pytest.mark.parametrize("only_refresh_token", (False, True))
@pytest.mark.parametrize("way", WIRE)
async def test_a_pair_survives_the_way(way: str, rig: Rig, client: TokenClient, *, only_refresh_token: bool) -> None:
    """The first answer is spoilt on the wire; the spent token is never presented again, and the account lives."""

    def script(number: int, form: Form) -> WireAnswer:
        answer = rig.provider(number, form)
        assert isinstance(answer, JSON)
        if number or answer.status != 200:
            return answer
        pair = json.loads(json.dumps(answer.body))
        return WIRE[way](alone(pair) if only_refresh_token else json.dumps(pair).encode())

    account = await rig.add()
    async with ScriptedTokenEndpoint(script) as endpoint:
        rig.pools["pool"] = replace(rig.pools["pool"], token_url=endpoint.url)
        refresher = rig.process(rig.store, endpoint=client)
        outcome = await refresher.refresh(account)
        presented = [post.form["refresh_token"] for post in endpoint.received]
    assert isinstance(outcome, Ready)
    assert len(presented) == len(set(presented)) == 1 + only_refresh_token
    stored = rig.stored()
    assert rig.provider.is_current(stored.token.refresh_token or "")
    assert stored.token.access_token in rig.provider
    assert not stored.disabled


async def test_what_arrived_is_handed_on_and_shown_nowhere(client: TokenClient) -> None:
    """Status, headers and as much of the body as came; the repr has none of it."""
    body = b'{"refresh_token": "secret", "x": "'
    head = b"HTTP/1.1 200 OK\r\nretry-after: 7\r\ncontent-type: text/x\r\ncontent-length: 999\r\n\r\n"
    async with ScriptedTokenEndpoint([Raw(head + body)]) as endpoint:
        answer = await client.post(endpoint.url, {}, {})
    assert isinstance(answer, ReplyLost)
    assert (answer.status, answer.body, answer.retry_after, answer.content_type) == (200, body, "7", "text/x")
    assert "secret" not in repr(answer)
    assert "secret" not in answer.detail
    assert isinstance(judge(answer, now=0, presented="old"), PartlyGranted)


@pytest.mark.parametrize("way", ("too long", "gzip of a gigabyte"))
async def test_no_answer_is_longer_than_the_limit(way: str, client: TokenClient) -> None:
    """Whether it is sent so, or becomes so when it is decompressed."""
    async with ScriptedTokenEndpoint([WIRE[way](b"{}")]) as endpoint:
        answer = await client.post(endpoint.url, {}, {})
    assert isinstance(answer, ReplyLost)
    assert len(answer.body) == MAX_BODY_BYTES
    assert "more than" in answer.detail


@pytest.mark.parametrize("coding", ("compress", "zstd", "gzip, compress", "x-no-such", "gzip, gzip, gzip, gzip"))
async def test_a_coding_that_is_not_known_is_no_answer(coding: str, client: TokenClient) -> None:
    """Nothing in it can be read, and the token may be spent; nor where it is none, or too many."""
    raw = sized(b"\x8b\x05\x80{}\x03", headers=b"content-encoding: %s\r\n" % coding.encode())
    async with ScriptedTokenEndpoint([Raw(raw)]) as endpoint:
        answer = await client.post(endpoint.url, {}, {})
    assert answer == ReplyLost(
        detail="the answer (HTTP 200) can't be decompressed", status=200, content_type="application/json"
    )


# --- adding ---------------------------------------------------------------------------------------------------


async def test_adding_goes_on_with_a_refresh_token_that_came_alone(tmp_path: Path) -> None:
    """It is presented in its turn; nothing is left behind, and the account is there."""
    async with open_desk(tmp_path) as desk:
        given = desk.signed_in("alice@example.com")
        kept: list[list[Path]] = []

        def script(number: int, form: Form) -> WireAnswer:
            kept.append(desk.unclaimed)
            answer = desk.provider(number, form)
            assert isinstance(answer, JSON)
            pair = json.loads(json.dumps(answer.body))
            return JSON(200, {"refresh_token": pair["refresh_token"]}) if number == 0 else answer

        desk.token_endpoint.script = script
        assert await desk.operations.add("google", given) == "Added google/alice@example.com"
        assert desk.posts[0] == given.refresh_token
        assert len(set(desk.posts)) == len(desk.posts) == 2
        assert [len(files) for files in kept] == [0, 1]
        assert desk.unclaimed == []
        assert desk.provider.is_current(desk.stored("google/alice@example.com")["token"]["refresh_token"])


@pytest.mark.parametrize(
    ("second", "why", "newest"),
    (
        (JSON(503, {}), "HTTP 503", "second"),
        (JSON(200, {"refresh_token": "third"}), "without an access token", "third"),
    ),
)
async def test_an_add_that_fails_after_that_says_where_the_new_one_is(
    second: WireAnswer, why: str, newest: str, tmp_path: Path
) -> None:
    """The newest refresh token is kept, its predecessors are not, and the error names the file."""
    async with open_desk(tmp_path) as desk:
        desk.token_endpoint.script = [JSON(200, {"refresh_token": "second"}), second]
        with pytest.raises(RefusedError, match=why) as refused:
            await desk.operations.add("google", desk.signed_in("alice@example.com"))
        (file,) = desk.unclaimed
        assert f"authpool add google @{file} NAME" in str(refused.value)
        assert json.loads(file.read_text())["refresh_token"] == newest
        assert "second" not in str(refused.value).replace(str(file), "")
        assert await desk.operations.accounts() == []


async def test_a_command_line_that_can_not_write_it_says_where_it_is(tmp_path: Path) -> None:
    """A gateway keeps trying; a command ends, so the new refresh token is put where there is room."""
    disk = FullDisk()

    def script(number: int, form: Form) -> WireAnswer:
        disk.full = True
        answer = desk.provider(number, form)
        assert isinstance(answer, JSON)
        pair = json.loads(json.dumps(answer.body))
        return JSON(200, {"refresh_token": pair["refresh_token"]})

    async with open_desk(tmp_path, files=disk) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        desk.token_endpoint.script = script
        with pytest.raises(StoreError, match="it is kept in"):
            await desk.operations.refresh("google/alice@example.com")
        (file,) = desk.unclaimed
        assert desk.provider.is_current(json.loads(file.read_text())["refresh_token"])
        disk.full = False
