"""A client's own traffic with a pool's token endpoint passes as it is, and no flow shows what is secret in it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import brotli
import pytest
from mitmproxy import http

from authpool.proxy.token_exchange import covered
from support.answers import JSON
from support.pool_rig import Rig, gateway_master, proxied

SECRETS = ("the-clients-refresh-token", "the-clients-secret", "a-new-access-token", "a-new-refresh-token")
ANSWER = {"access_token": SECRETS[2], "refresh_token": SECRETS[3], "token_type": "Bearer", "expires_in": 3600}


class Watcher:
    """Takes down everything there is of a flow, at each of its stages."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def _see(self, flow: http.HTTPFlow) -> None:
        self.seen.append(json.dumps(flow.get_state(), default=repr))
        self.seen += [part.get_text(strict=False) or "" for part in (flow.request, flow.response) if part is not None]

    requestheaders = request = responseheaders = response = error = _see


@pytest.mark.mitmproxy
@pytest.mark.parametrize("streamed", (False, True))
@pytest.mark.parametrize("basic", (False, True))
async def test_a_refresh_of_a_clients_own_passes_and_is_not_shown(
    *, rig: Rig, confdir: Path, basic: bool, streamed: bool
) -> None:
    """Form and JSON, the client's Basic authentication too, at every stage of the flow."""
    rig.home("alice")
    rig.endpoint.script = lambda _number, _form: JSON(200, ANSWER)
    watcher = Watcher()
    form = {"grant_type": "refresh_token", "refresh_token": SECRETS[0], "scope": "mail"}
    more = {"auth": ("client", SECRETS[1])} if basic else {}
    form |= {} if basic else {"client_id": "client", "client_secret": SECRETS[1]}
    settings = {"stream_large_bodies": "1", "store_streamed_bodies": True} if streamed else {}
    async with (
        gateway_master(rig.path, watcher, confdir=confdir, **settings) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        answer = await api.post(rig.endpoint.url, data=form, **more)
        assert not any(secret in message for secret in SECRETS for message in gateway.messages)

    received = rig.endpoint.received[-1].request
    assert answer.json() == ANSWER
    assert received.form == form
    assert (received.header("authorization") or "").startswith("Basic ") is basic
    seen = "\n".join(watcher.seen)
    assert "grant_type=refresh_token" in seen
    assert "mail" in seen
    assert '"token_type": "Bearer"' in seen.replace("\\", "")
    assert not [secret for secret in SECRETS if secret in seen]
    assert (received.header("authorization") or "no such header") not in seen


@pytest.mark.mitmproxy
@pytest.mark.parametrize("compress", (gzip.compress, brotli.compress), ids=("gzip", "br"))
async def test_a_request_that_is_compressed_is_not_shown_either(
    rig: Rig, confdir: Path, compress: Callable[[bytes], bytes]
) -> None:
    """The endpoint gets it as it came."""
    rig.home("alice")
    rig.endpoint.script = lambda _number, _form: JSON(200, ANSWER)
    watcher = Watcher()
    content = compress(b"grant_type=refresh_token&scope=mail&refresh_token=" + SECRETS[0].encode())
    coding = {"content-encoding": "gzip" if compress is gzip.compress else "br"}
    async with gateway_master(rig.path, watcher, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        await api.post(rig.endpoint.url, content=content, headers=coding)
    assert rig.endpoint.received[-1].request.body == content
    seen = "\n".join(watcher.seen)
    assert "scope=mail" in seen
    assert SECRETS[0] not in seen


@pytest.mark.mitmproxy
async def test_other_paths_of_that_host_are_shown_as_they_are(rig: Rig, confdir: Path) -> None:
    """It is the endpoint that takes tokens, not the whole machine."""
    rig.home("alice")
    rig.endpoint.script = lambda _number, _form: JSON(200, ANSWER)
    watcher = Watcher()
    parts = urlsplit(rig.endpoint.url)
    async with gateway_master(rig.path, watcher, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        await api.post(f"{parts.scheme}://{parts.netloc}/elsewhere", data={"refresh_token": SECRETS[0]})
    assert SECRETS[0] in "\n".join(watcher.seen)


@pytest.mark.parametrize(
    ("content", "shown"),
    (
        (b"refresh_token=abc&a=b", b"refresh_token=***&a=b"),
        (b"a=b&code=%41%42&code_verifier=xy", b"a=b&code=******&code_verifier=**"),
        (b"my_refresh_token=abc", b"my_refresh_token=abc"),
        (b'{"access_token" : "a\\"b", "scope": "x"}', b'{"access_token" : "****", "scope": "x"}'),
        (b'{"a": {"refresh_token": "ab"}, "id_token": "c"}', b'{"a": {"refresh_token": "**"}, "id_token": "*"}'),
        (b'{"error": "invalid_grant"}', b'{"error": "invalid_grant"}'),
        (b'{"access_token": "cut off', b'{"access_token": "*******'),
        (b"", b""),
    ),
)
def test_forms_and_json_are_covered_by_the_names_of_their_fields(content: bytes, shown: bytes) -> None:
    """As long as before."""
    assert covered(content) == shown
    if content != shown:
        assert gzip.decompress(covered(gzip.compress(content), "gzip")) == shown
