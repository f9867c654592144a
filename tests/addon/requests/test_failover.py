"""When an account fails, the same request goes on with the next one, and the client sees one answer."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest
from mitmproxy import http

from support.answers import JSON, Slow
from support.certificates import CertificateAuthority
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.rotating_provider import RotatingProvider
from support.token_endpoint import refused_url
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy


def check_that_nobody_is_named(answer: httpx.Response, rig: Rig) -> None:
    """An answer of the gateway is for strangers."""
    said = answer.text + str(answer.headers)
    for word in ("alice", "bob", "carol", "p/", "access-", "refresh-", "expired or revoked", *rig.secrets):
        assert word not in said


# --- a refresh fails ------------------------------------------------------------------------------------------------


async def test_a_dead_grant_moves_the_request_to_the_next_account(rig: Rig) -> None:
    """The client notices nothing; the verdict is on disk, and in the log in the operator's words."""
    rig.home("alice", "bob", "carol", expires_in=-10)
    rig.provider.revoke("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        statuses = [(await api.get("/x")).status_code for _ in range(4)]
        # The second answer makes the verdict.
        await gateway.wait_until(lambda: [line for line in gateway.messages if "Disabling account" in line], 20)
        messages = gateway.messages

    assert statuses == [200] * 4
    assert set(rig.owners) == {"bob", "carol"}
    assert rig.account("alice")["disabled"] is True
    assert rig.account("alice")["disabled_reason"].startswith("invalid_grant")
    assert "Disabling account p/alice due to invalid_grant: refresh token likely revoked or expired" in messages


async def test_the_comment_tells_account_rotation_attempts_and_outcome(rig: Rig) -> None:
    """What mitmweb shows beside a flow that took three tries."""
    rig.home("alice", "bob")
    for name in ("alice", "bob"):
        rig.provider.expire(name)
    rig.provider.revoke("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for _ in range(2):
            assert (await api.get("/x")).status_code == 200
        comments = [flow.comment for flow in gateway.finished]
        messages = gateway.messages

    met_alice = next(comment for comment in comments if "p/alice: invalid_grant" in comment)
    # Bob's token may have been replaced for the request before, or has yet to be for this one.
    assert re.match(r"p/bob attempts=[23] outcome=200 rotation=round_robin client=127\.0\.0\.1 \(", met_alice)
    assert "Token refresh failed (p/alice): invalid_grant, trying next account" in messages


# --- the upstream refuses the token ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "body"),
    (("GET", b""), ("DELETE", b"x"), ("POST", b"\x00body" * 30_000), ("PUT", b"{}"), ("PATCH", b"a=1")),
)
async def test_a_refused_token_is_refreshed_and_the_request_sent_again(rig: Rig, method: str, body: bytes) -> None:
    """Any method; the body arrives whole each time, and the client has one answer."""
    rig.home("alice")
    rig.provider.expire("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.request(method, "/x?q=1", content=body, headers={"x-kept": "1"})
        comment = gateway.finished[0].comment

    assert answer.status_code == 200
    assert rig.posts == 1
    assert [(r.method, r.target, r.body, r.header("x-kept")) for r in rig.upstream.received] == [
        (method, "/x?q=1", body, "1")
    ] * 2
    assert rig.bearers[0] != rig.bearers[1]
    assert "attempts=2 outcome=200" in comment
    assert len(gateway.finished) == 1


async def test_a_second_refusal_is_the_next_accounts_turn(rig: Rig) -> None:
    """A fresh token was refused as well: that account is not refreshed again for it, another one serves."""
    rig.home("alice", "bob")
    bad = "alice"
    rig.upstream.accept(_Only(rig.provider, lambda owner: owner != bad))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        statuses = [(await api.post("/x", content=b"body")).status_code for _ in range(6)]

    assert statuses == [200] * 6
    assert rig.posts == 1  # of alice, once; from then on her 401 is not worth a refresh
    assert rig.owners.count("bob") == 6
    assert {r.body for r in rig.upstream.received} == {b"body"}


class _Only:
    """The tokens of some owners."""

    def __init__(self, provider: RotatingProvider, wanted: object) -> None:
        self._provider = provider
        self._wanted = wanted

    def __contains__(self, token: object) -> bool:
        owner = self._provider.account_of(str(token))
        return owner is not None and self._wanted(owner)  # type: ignore[operator]


@pytest.mark.parametrize("max_accounts", (1, 2, 3))
async def test_at_most_so_many_accounts_are_tried(rig: Rig, max_accounts: int) -> None:
    """Then the upstream's own 401 is the answer: it says more than we could."""
    names = ("a", "b", "c", "d", "e")
    rig.home(*names, gateway={"max_accounts": max_accounts})
    rig.upstream.accept(())
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")

    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_token"}
    assert len(set(rig.owners)) == max_accounts
    assert len(rig.owners) == 2 * max_accounts  # each with its token, and with a fresh one
    assert len(set(rig.bearers)) == len(rig.bearers)


async def test_a_401_with_a_connection_that_ends_is_sent_again_on_another(rig: Rig) -> None:
    """HTTP/1: the upstream closes after its refusal."""
    rig.home("alice")
    rig.provider.expire("alice")
    rig.upstream.refusal = JSON(401, {"error": "invalid_token"}, {"connection": "close"})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.post("/x", content=b"body")

    assert answer.status_code == 200
    assert [r.body for r in rig.upstream.received] == [b"body"] * 2


async def test_a_streamed_upload_can_not_be_sent_again_but_its_token_is_replaced(rig: Rig) -> None:
    """`stream_large_bodies`: the body is gone; the client gets the 401, and the next request works."""
    rig.home("alice")
    rig.provider.expire("alice")
    async with reverse_gateway(rig, stream_large_bodies="20k") as gateway, client(gateway.url) as api:
        first = await api.post("/x", content=b"x" * 200_000)
        second = await api.post("/x", content=b"y" * 200_000)

    assert [first.status_code, second.status_code] == [401, 200]
    assert [len(r.body) for r in rig.upstream.received] == [200_000] * 2
    assert rig.posts == 1


async def test_twenty_requests_on_one_http2_connection_are_each_refused_and_come_through(
    rig: Rig, http2_upstream: Upstream, authority: CertificateAuthority, confdir: Path
) -> None:
    """Every stream is sent again on its own, and the account is refreshed once."""
    rig.upstream = http2_upstream
    rig.host = f"localhost:{rig.upstream.port}"
    rig.home("alice")
    rig.provider.expire("alice")
    async with (
        gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=str(authority.ca_file)) as gateway,
        proxied(gateway.url, confdir, http2=True, limits=httpx.Limits(max_connections=1)) as api,
    ):
        answers = await asyncio.gather(*(api.post(f"https://{rig.host}/{n}", content=b"%d" % n) for n in range(20)))

    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert [json.loads(answer.text)["body"] for answer in answers] == [str(n) for n in range(20)]
    assert rig.posts == 1
    assert rig.upstream.server.connections_made == 1
    accepted = [request for request in rig.upstream.received if (request.bearer or "") in rig.provider]
    assert sorted(int(request.body) for request in accepted) == list(range(20))


async def test_a_hundred_connections_meet_one_expired_account_and_cause_one_refresh(rig: Rig) -> None:
    """All of them wait for the same flight, and all of them are served."""
    rig.home("alice", expires_in=-10)
    async with (
        reverse_gateway(rig) as gateway,
        client(gateway.url, limits=httpx.Limits(max_connections=100)) as api,
    ):
        answers = await asyncio.gather(*(api.get(f"/{n}") for n in range(100)))

    assert {answer.status_code for answer in answers} == {200}
    assert rig.posts == 1
    assert rig.account("alice")["generation"] == 2


# --- between the decision and the wire ------------------------------------------------------------------------------


class Holds:
    """Keeps a request between the gateway's decision and the wire, until the test lets it go."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    async def request(self, flow: http.HTTPFlow) -> None:
        self.arrived.set()
        await self.go.wait()


async def test_a_client_that_leaves_during_a_refresh_orphans_nothing(rig: Rig) -> None:
    """The rotation that was under way is stored, and serves the next one."""
    rig.home("alice", expires_in=-10)
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        leaves = asyncio.create_task(api.get("/x"))
        await gateway.wait_until(lambda: rig.posts == 1)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        gate.set()
        await gateway.wait_until(lambda: rig.account("alice")["generation"] == 2)
        answer = await api.get("/y")

    assert answer.status_code == 200
    assert rig.posts == 1
    assert "pending_refresh" not in rig.account("alice")
    assert rig.provider.is_alive("alice")


@pytest.mark.parametrize("change", ("paused", "removed", "disabled"))
async def test_an_account_that_leaves_before_the_wire_gives_way_to_another(rig: Rig, change: str) -> None:
    """The request was decided about while its body was still on the way."""
    home = rig.home("alice", "bob")
    holds = Holds()
    async with reverse_gateway(rig, holds) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.post("/x", content=b"body"))
        await holds.arrived.wait()
        chosen = gateway.master.addons.get("authpool")._traffic._tickets[gateway.flows[0]].pooled.address
        name = chosen.partition("/")[2]
        document = rig.account(name)
        if change == "removed":
            next((home / "accounts" / "p").glob(f"{name}.toml")).unlink()
        else:
            rig.write(name, **document | {"proxy_disabled" if change == "paused" else "disabled": True})
        await gateway.wait_until(lambda: [m for m in gateway.messages if "Pool p reloaded: 1 ready" in m])
        holds.go.set()
        answer = await asked

    assert answer.status_code == 200
    assert rig.owners == [({"alice", "bob"} - {name}).pop()]


async def test_the_last_account_leaving_before_the_wire_leaves_nothing_to_send(rig: Rig) -> None:
    """The request is answered by us, not sent without a credential."""
    rig.home("alice")
    holds = Holds()
    async with reverse_gateway(rig, holds) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.post("/x", content=b"body", headers={"authorization": "Bearer mine"}))
        await holds.arrived.wait()
        rig.write("alice", **rig.account("alice") | {"proxy_disabled": True})
        await gateway.wait_until(lambda: [m for m in gateway.messages if "1 paused" in m])
        holds.go.set()
        answer = await asked

    assert (answer.status_code, answer.headers["authpool-error"]) == (503, "pool_exhausted")
    assert rig.upstream.received == []


async def test_an_upload_that_outlives_its_token_goes_out_with_the_newer_one(rig: Rig) -> None:
    """The token is read at the last moment, not when the upload began."""
    rig.home("alice")
    holds = Holds()
    async with reverse_gateway(rig, holds) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.post("/x", content=b"body"))
        await holds.arrived.wait()
        old = rig.account("alice")["token"]["access_token"]
        rig.provider.expire("alice")
        rig.write("alice", generation=2, token=rig.token("alice"))
        new = rig.account("alice")["token"]["access_token"]
        pool = gateway.master.addons.get("authpool").service.snapshot.pools["p"]
        await gateway.wait_until(lambda: next(iter(pool)).account.token.access_token == new)
        holds.go.set()
        answer = await asked

    assert answer.status_code == 200
    assert rig.bearers == [new] != [old]


# --- nobody can serve -----------------------------------------------------------------------------------------------


async def test_all_dead_is_one_answer_that_counts_them(rig: Rig) -> None:
    """503 pool_exhausted: how many are disabled, and that re-adding helps."""
    rig.home("alice", "bob")
    rig.write("alice", disabled=True, token=rig.token("alice"))
    rig.write("bob", proxy_disabled=True, token=rig.token("bob"))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x", headers={"authorization": "Bearer mine"})

    assert (answer.status_code, answer.headers["authpool-error"]) == (503, "pool_exhausted")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "1 disabled, 1 paused" in answer.json()["detail"]
    assert "Re-adding" in answer.json()["detail"]
    assert "retry-after" not in answer.headers
    check_that_nobody_is_named(answer, rig)
    assert rig.upstream.received == []


async def test_the_last_account_dying_of_a_401_is_told_by_us(rig: Rig) -> None:
    """The upstream's 401 would make the client look for a fault of its own."""
    rig.home("alice")
    rig.provider.revoke("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.post("/x", content=b"body")
        later = answer
        async with asyncio.timeout(30):
            while "disabled" not in later.json()["detail"]:
                later = await api.post("/x", content=b"body")

    for told, what in ((answer, "1 cooling"), (later, "1 disabled")):
        assert (told.status_code, told.headers["authpool-error"]) == (503, "pool_exhausted")
        assert what in told.json()["detail"]
        check_that_nobody_is_named(told, rig)
    assert 1 <= int(answer.headers["retry-after"]) <= 6


async def test_a_token_endpoint_that_is_down_is_told_and_nobody_disabled(rig: Rig) -> None:
    """502 token_endpoint_unavailable with a Retry-After; tokens that live go on serving."""
    with refused_url() as nowhere:
        rig.home("alice", "bob", expires_in=-10, token_url=nowhere)
        async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
            for _ in range(2):
                answer = await api.get("/x")
                assert (answer.status_code, answer.headers["authpool-error"]) == (502, "token_endpoint_unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                check_that_nobody_is_named(answer, rig)
            rig.write("carol", token=rig.token("carol"))
            await gateway.wait_until(lambda: [m for m in gateway.messages if "1 ready" in m])
            assert (await api.get("/x")).status_code == 200

    assert not any(rig.account(name).get("disabled") for name in ("alice", "bob"))
    assert rig.owners == ["carol"]


async def test_a_rejected_client_is_told_and_nobody_disabled(rig: Rig) -> None:
    """invalid_client: the configuration is wrong, not an account; 502 pool_misconfigured."""
    rig.home("alice", "bob", expires_in=-10)
    rig.endpoint.script = lambda _number, _form: JSON(
        401, {"error": "invalid_client", "error_description": "wrong secret"}
    )
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(3)]

    for answer in answers:
        assert (answer.status_code, answer.headers["authpool-error"]) == (502, "pool_misconfigured")
        check_that_nobody_is_named(answer, rig)
        assert "wrong secret" not in answer.text
    assert not any(rig.account(name).get("disabled") for name in ("alice", "bob"))
    assert rig.upstream.received == []


async def test_a_pool_without_accounts_says_how_to_add_one(rig: Rig) -> None:
    """The first request of a new gateway; and it comes to life when an account is added."""
    rig.home()
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")
        assert (answer.status_code, answer.headers["authpool-error"]) == (503, "pool_exhausted")
        assert "authpool add" in answer.json()["detail"]
        rig.write("alice", token=rig.token("alice"))
        await gateway.wait_until(lambda: [m for m in gateway.messages if "1 ready" in m])
        assert (await api.get("/x")).status_code == 200


async def test_an_account_that_can_not_refresh_is_no_fault_of_the_token_endpoint(rig: Rig) -> None:
    """Expired and without a refresh token: re-adding helps, waiting does not."""
    rig.home()
    rig.write("alice", token={"access_token": "old", "expires_at": 1_700_000_000})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(2)]

    assert [answer.headers["authpool-error"] for answer in answers] == ["pool_exhausted"] * 2
    assert rig.posts == 0


async def test_a_static_credential_that_is_refused_is_passed_over_for_the_next(rig: Rig) -> None:
    """There is nothing to refresh; another account may have a better one."""
    rig.home(type="static", token_url=None, client_id=None, client_secret=None)
    rig.write("bad", token={"access_token": "bad-secret"})
    rig.write("good", token={"access_token": "good-secret"})
    rig.upstream.accept({"good-secret"})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        statuses = [(await api.get("/x")).status_code for _ in range(4)]

    assert statuses == [200] * 4
