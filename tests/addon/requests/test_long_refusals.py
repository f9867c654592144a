"""An answer that speaks against the account is judged by its head: its body may be as long as it likes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from mitmproxy import http

from support.answers import JSON, Big
from support.certificates import CertificateAuthority
from support.exchange import Reply
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy


@dataclass(frozen=True, slots=True)
class Long:
    """A long body; without a `length` nobody knows before its end how long it is."""

    status: int
    announced: bool
    size: int = 300_000
    headers: Mapping[str, str] | None = None

    async def play(self, reply: Reply) -> None:
        await reply.head(self.status, dict(self.headers or {}), self.size if self.announced else None)
        for _ in range(0, self.size, 10_000):
            await reply.data(b"x" * 10_000)
        await reply.end()


class Streams:
    """Another addon that wants no answer to be kept back."""

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = True


ANNOUNCED = pytest.mark.parametrize("announced", (True, False), ids=("of known length", "chunked"))


@ANNOUNCED
@pytest.mark.parametrize("options", ({}, {"stream_large_bodies": "20k"}, {"body_size_limit": "1m"}), ids=str)
@pytest.mark.parametrize("status", (401, 429))
async def test_the_request_goes_on(rig: Rig, status: int, options: dict[str, str], *, announced: bool) -> None:
    """With the fresh token, or with the next account; the client sees nothing of the refusal."""
    rig.home("alice", "bob")
    rig.provider.expire("alice")
    rig.provider.expire("bob")
    rig.upstream.refusal = Long(401, announced)
    if status == 429:
        rig.upstream.accept(rig.provider)
        rig.upstream.then(Long(429, announced))
    async with reverse_gateway(rig, **options) as gateway, client(gateway.url) as api:
        answer = await api.post("/x", content=b"body")
        await gateway.wait_until(lambda: gateway.finished)
        errors = [flow.error for flow in gateway.finished]

    assert (answer.status_code, errors) == (200, [None])
    assert {r.body for r in rig.upstream.received} == {b"body"}


@ANNOUNCED
@pytest.mark.parametrize("before", (True, False), ids=("loaded before", "loaded after"))
async def test_an_addon_that_streams_all_answers_is_no_hindrance(rig: Rig, *, announced: bool, before: bool) -> None:
    """What is to flow is the answer that the client gets."""
    rig.home("alice")
    rig.provider.expire("alice")
    rig.upstream.refusal = Long(401, announced)
    addons: dict[str, Any] = {"before": [Streams()]} if before else {}
    master = reverse_gateway(rig, *([] if before else [Streams()]), **addons)
    async with master as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
    assert rig.posts == 1


async def test_http2_resets_the_refused_stream(
    rig: Rig, http2_upstream: Upstream, authority: CertificateAuthority, confdir: Any
) -> None:
    """And goes on with another on the same connection."""
    rig.upstream = http2_upstream
    rig.host = f"localhost:{rig.upstream.port}"
    rig.home("alice")
    rig.provider.expire("alice")
    rig.upstream.refusal = Big(401, 1_000_000)
    async with (
        gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=str(authority.ca_file)) as gateway,
        proxied(gateway.url, confdir, http2=True, limits=httpx.Limits(max_connections=1)) as api,
    ):
        answer = await api.post(f"https://{rig.host}/x", content=b"body")

    assert answer.status_code == 200
    assert (rig.posts, rig.upstream.server.connections_made) == (1, 1)


@ANNOUNCED
@pytest.mark.parametrize("options", ({}, {"stream_large_bodies": "20k"}), ids=str)
async def test_the_last_accounts_refusal_reaches_the_client_whole(
    rig: Rig, options: dict[str, str], *, announced: bool
) -> None:
    """It was looked at before its end, and no byte of it is lost; the flow keeps no piece of it."""
    rig.home("alice")
    rig.upstream.accept(())
    rig.upstream.refusal = Long(401, announced)
    async with reverse_gateway(rig, **options) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")
        await gateway.wait_until(lambda: gateway.finished)
        kept = [flow.response.raw_content for flow in gateway.finished if flow.response is not None]

    assert (answer.status_code, answer.content) == (401, b"x" * 300_000)
    assert kept == [None]
    assert len(rig.upstream.received) == 2  # with the token, and with a fresh one


@pytest.mark.parametrize("size", (30_000, 300_000))
async def test_the_answer_after_a_refusal_flows_whole(rig: Rig, size: int) -> None:
    """An answer of unknown length that is longer than `stream_large_bodies`, at the second attempt."""
    rig.home("alice")
    rig.provider.expire("alice")
    rig.upstream.then(Long(200, announced=False, size=size))
    async with reverse_gateway(rig, stream_large_bodies="20k") as gateway, client(gateway.url) as api:
        answer = await api.get("/x")

    assert (answer.status_code, len(answer.content)) == (200, size)


async def test_mitmproxys_own_limit_holds_for_what_the_client_gets(rig: Rig) -> None:
    """`body_size_limit` ends an answer that is too long, as ever."""
    rig.home("alice")
    rig.upstream.then(Long(200, announced=False))
    async with reverse_gateway(rig, body_size_limit="20k") as gateway, client(gateway.url) as api:
        answer = await api.get("/x")

    assert answer.status_code == 502


async def test_a_rule_on_the_body_that_cannot_be_read_leaves_it_to_the_status(rig: Rig) -> None:
    """A JSON document is judged where 64 KiB have all of it."""
    rig.home("alice", answers=[{"status": 401, "json": "error", "equals": "plan", "means": "ok"}])
    rig.provider.expire("alice")
    rig.upstream.refusal = JSON(401, {"page": "x" * 300_000, "error": "plan"})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
