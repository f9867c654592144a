"""Of what clients and upstreams compress no more is undone than is looked at."""

import gzip
import json
import tracemalloc
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest

from support.answers import JSON, Raw
from support.pool_rig import Rig, client, reverse_gateway

pytestmark = pytest.mark.mitmproxy

MIB = 1024 * 1024


def bomb(**members: Any) -> bytes:
    """A few hundred bytes that say they are 200 MiB of JSON, the members first."""
    text = json.dumps(members)[:-1].encode() + b', "data": "' + b" " * (200 * MIB) + b'"}'
    return bytes(brotli.compress(text, quality=5))


async def test_a_request_that_is_chosen_by_its_body(rig: Rig) -> None:
    """It costs what is looked at, has its kind all the same, and goes out as it came."""
    rig.home("alice", "bob", cooldown_by="json:model", rotation={"name": "sticky", "by": "json:user"})
    body = bomb(model="large", user="me")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        tracemalloc.start()
        answer = await api.post("/x", content=body, headers={"Content-Encoding": "br"})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert answer.status_code == 200
    assert rig.upstream.received[0].body == body
    assert peak < 32 * MIB


@pytest.mark.parametrize("coding", ("br", "gzip", "br, gzip"))
async def test_the_kind_of_a_compressed_request_is_known(rig: Rig, coding: str) -> None:
    """One model is limited on all accounts; the other one is served."""
    rig.home("alice", "bob", cooldown_by="json:model")
    rig.upstream.respond = lambda request: (
        JSON(429, {}, {"retry-after": "60"}) if request.header("x-asked") == "large" else JSON(200, {})
    )

    def ask(model: str) -> dict[str, Any]:
        text = json.dumps({"model": model}).encode()
        packed = brotli.compress(text) if "br" in coding else text
        packed = gzip.compress(packed) if "gzip" in coding else packed
        return {"content": packed, "headers": {"Content-Encoding": coding, "X-Asked": model}}

    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        statuses = [(await api.post("/x", **ask(model))).status_code for model in ("large", "large", "small")]
    assert statuses == [503, 503, 200]


async def test_an_answer_that_is_judged_by_its_body(rig: Rig) -> None:
    """A rule on a JSON field: the answer speaks against the account, however much it says it is."""
    rule = {"status": 403, "json": "error.code", "equals": "token_expired", "means": "forbidden"}
    rig.home("alice", "bob", answers=[rule])
    body = bomb(error={"code": "token_expired"})
    head = f"HTTP/1.1 403 No\r\nContent-Type: application/json\r\nContent-Encoding: br\r\nContent-Length: {len(body)}"
    rig.upstream.then(Raw(f"{head}\r\n\r\n".encode() + body))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        tracemalloc.start()
        answer = await api.get("/x")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert answer.status_code == 200
    assert len(set(rig.owners)) == 2
    assert peak < 32 * MIB
