"""The certificates of pools' hosts are verified, whatever `ssl_insecure` says."""

from pathlib import Path

import httpx
import pytest
from mitmproxy import ctx, tls
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.mode_specs import ProxyMode
from OpenSSL import SSL

from authpool.proxy.upstream_tls import UpstreamTls
from support.certificates import CertificateAuthority
from support.home import write_configuration
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy


class Hosts:
    """Every host is a pool's, or none."""

    def __init__(self, *, pools: bool) -> None:
        self._pools = pools

    def is_a_pools(self, address: object) -> bool:
        return self._pools


def handshake(verify: int, sni: str | None = "api.example.com") -> tls.TlsData:
    server = Server(address=("api.example.com", 443))
    server.sni = sni
    sides = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), proxy_mode=ProxyMode.parse("regular"))
    data = tls.TlsData(server, Context(sides, ctx.options if hasattr(ctx, "options") else None))  # type: ignore[arg-type]
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(verify)
    data.ssl_conn = SSL.Connection(context)
    return data


@pytest.mark.parametrize(
    ("verify", "pools", "sni", "mode", "proven"),
    (
        (SSL.VERIFY_NONE, True, "api.example.com", SSL.VERIFY_PEER, True),
        (SSL.VERIFY_NONE, True, "", SSL.VERIFY_NONE, False),
        (SSL.VERIFY_PEER, True, "", SSL.VERIFY_PEER, False),
        (SSL.VERIFY_NONE, False, "api.example.com", SSL.VERIFY_NONE, False),
        (SSL.VERIFY_PEER, True, "api.example.com", SSL.VERIFY_PEER, True),
        (SSL.VERIFY_PEER, False, "api.example.com", SSL.VERIFY_PEER, True),
    ),
)
def test_what_a_handshake_proves(*, verify: int, pools: bool, sni: str, mode: int, proven: bool) -> None:
    """A pool's is verified, by a name; what is not is remembered, for a pool may come up that the host is of."""
    upstream_tls = UpstreamTls(Hosts(pools=pools))  # type: ignore[arg-type]
    data = handshake(verify, sni)
    upstream_tls.starts(data)
    assert data.ssl_conn is not None
    assert (data.ssl_conn.get_verify_mode(), upstream_tls.is_proven(data.conn)) == (mode, proven)


def test_an_upstream_without_a_certificate_proves_nothing() -> None:
    """Some ciphers do without; the handshake succeeds all the same."""
    upstream_tls = UpstreamTls(Hosts(pools=True))  # type: ignore[arg-type]
    data = handshake(SSL.VERIFY_PEER)
    upstream_tls.starts(data)
    upstream_tls.established(data)
    assert not upstream_tls.is_proven(data.conn)


@pytest.mark.parametrize("http2", (False, True), ids=("h1", "h2"))
async def test_an_upstream_that_is_not_trusted_gets_nothing(
    rig: Rig, confdir: Path, authority: CertificateAuthority, *, http2: bool
) -> None:
    """In a tunnel: a request of a pool fails by TLS; other hosts are as insecure as was asked for."""
    async with (
        Upstream(authority.server_context(http2=http2)) as upstream,
        Upstream(authority.server_context()) as other,
    ):
        rig.upstream = upstream
        rig.home("alice")
        async with (
            gateway_master(rig.path, confdir=confdir, ssl_insecure=True) as gateway,
            proxied(gateway.url, confdir, http2=http2) as api,
        ):
            assert (await api.get(f"{upstream.url}/x")).status_code == 502
            assert (await api.get(f"{other.url}/x")).status_code == 200
        assert upstream.received == []


async def test_in_reverse_mode_and_with_a_ca_of_its_own(rig: Rig, authority: CertificateAuthority) -> None:
    """What the operator trusts by name is trusted, insecure or not."""
    async with Upstream(authority.server_context()) as upstream:
        rig.upstream = upstream
        rig.home("alice")
        for more, status in (({}, 502), ({"ssl_verify_upstream_trusted_ca": str(authority.ca_file)}, 200)):
            async with (
                reverse_gateway(rig, ssl_insecure=True, connection_strategy="lazy", **more) as gateway,
                client(gateway.url) as api,
            ):
                assert (await api.get("/x")).status_code == status
        assert rig.owners == ["alice"]


async def test_a_connection_from_before_is_not_taken_for_a_pools(
    rig: Rig, confdir: Path, authority: CertificateAuthority
) -> None:
    """It was opened unverified, for a host of no pool; a reload makes the host a pool's."""
    async with Upstream(authority.server_context()) as upstream:
        rig.upstream = upstream
        home = rig.home("alice", hosts=["api.example"])
        async with (
            gateway_master(home, confdir=confdir, ssl_insecure=True) as gateway,
            proxied(gateway.url, confdir, limits=httpx.Limits(max_connections=1)) as api,
        ):
            assert (await api.get(f"{upstream.url}/x")).status_code == 401  # the upstream's
            write_configuration(home, pools={"p": rig.pool(hosts=[upstream.authority])})
            await gateway.wait_until(lambda: sum("Pool p reloaded" in message for message in gateway.messages) > 1)
            answer = await api.get(f"{upstream.url}/x")
            assert (answer.status_code, answer.headers["authpool-error"]) == (500, "gateway_error")
        assert len(upstream.received) == upstream.server.connections_made == 1
