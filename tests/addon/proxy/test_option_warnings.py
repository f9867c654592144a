"""Options of mitmproxy that pass a pool's host over or weaken it: each is said at the start and when it comes up."""

from pathlib import Path
from typing import Any

import pytest
from mitmproxy import ctx

from support.certificates import CertificateAuthority
from support.home import write_configuration
from support.pool_rig import Rig, gateway_master, proxied
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

HOSTS = ["api.example.com", "*.cloud.example", "127.0.0.1:9000"]
FINDINGS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ignore_hosts": [r"^api\.example\.com"]}, "ignore_hosts: api.example.com of pool p"),
    ({"ignore_hosts": [r"EXAMPLE\.com:443"]}, "ignore_hosts: api.example.com of pool p"),
    ({"ignore_hosts": [r"\.cloud\.example"]}, "ignore_hosts: *.cloud.example of pool p"),
    ({"ignore_hosts": [":9000$"]}, "ignore_hosts: 127.0.0.1:9000 of pool p"),
    ({"allow_hosts": [r"api\.example\.com", "9000"]}, "allow_hosts: *.cloud.example of pool p"),
    ({"tcp_hosts": ["example.com"]}, "tcp_hosts: api.example.com of pool p"),
    ({"udp_hosts": ["cloud.example"]}, "udp_hosts: *.cloud.example of pool p"),
    ({"ssl_insecure": True}, "ssl_insecure does not count for pools' hosts"),
    ({"mode": ["reverse:https://api.example.com"], "keep_host_header": True}, "keep_host_header"),
    ({"validate_inbound_headers": False}, "validate_inbound_headers"),
    ({"tls_version_server_min": "TLS1"}, "tls_version_server_min"),
    ({"ciphers_server": "ALL:@SECLEVEL=0"}, "ciphers_server"),
    ({"stickycookie": "~d api.example.com"}, "stickycookie"),
)
QUIET: tuple[dict[str, Any], ...] = (
    {},
    {"ignore_hosts": [r"^other\.example", r"cloud\.example\.org", "9001"]},
    {"allow_hosts": ["example", "9000"]},
    {"tcp_hosts": ["other"]},
    {"keep_host_header": True},
    {"tls_version_server_min": "TLS1_3", "ciphers_server": "ECDHE-RSA-AES128-GCM-SHA256"},
    {"upstream_cert": False, "http2_ping_keepalive": 0, "http2": False},
)


def said(messages: list[str], what: str) -> int:
    return sum(message.startswith("authpool: ") and what in message for message in messages)


@pytest.mark.parametrize(("options", "finding"), FINDINGS, ids=lambda value: str(value)[:40])
async def test_at_the_start(rig: Rig, options: dict[str, Any], finding: str) -> None:
    """Once, as a warning; nothing else is."""
    rig.home("alice", hosts=HOSTS)
    async with gateway_master(rig.path, **options) as gateway:
        warnings = [record.getMessage() for record in gateway.log if record.levelname == "WARNING"]
        assert said(warnings, finding) == 1
        assert len([message for message in warnings if "of pool p" in message]) <= 2


@pytest.mark.parametrize("options", QUIET, ids=str)
async def test_what_touches_no_pool_is_not_said(rig: Rig, options: dict[str, Any]) -> None:
    """Nor what only slows down or names something."""
    rig.home("alice", hosts=HOSTS)
    async with gateway_master(rig.path, **options) as gateway:
        assert [r.getMessage() for r in gateway.log if r.levelname == "WARNING" and r.name.startswith("authpool")] == []


async def test_at_a_change(rig: Rig) -> None:
    """When the option is set, when a pool comes up that it touches; again only after it was gone."""
    home = rig.home("alice", hosts=["api.example.com"])
    async with gateway_master(home) as gateway:
        ctx.options.update(ignore_hosts=["example"])
        ctx.options.update(tcp_hosts=["nothing"])
        assert said(gateway.messages, "ignore_hosts: api.example.com of pool p") == 1
        write_configuration(home, pools={"p": rig.pool(hosts=["api.example.com"]), "q": rig.pool(hosts=["b.example"])})
        await gateway.wait_until(lambda: said(gateway.messages, "ignore_hosts: b.example of pool q"))
        assert said(gateway.messages, "ignore_hosts: api.example.com of pool p") == 1
        ctx.options.update(ignore_hosts=[])
        ctx.options.update(ignore_hosts=["api"])
        assert said(gateway.messages, "ignore_hosts: api.example.com of pool p") == 2


async def test_without_pools_nothing_is_said(rig: Rig) -> None:
    """There is nothing to weaken."""
    rig.home("alice")
    write_configuration(rig.path, pools={})
    async with gateway_master(rig.path, ssl_insecure=True, ignore_hosts=["."]) as gateway:
        assert said(gateway.messages, "ssl_insecure") + said(gateway.messages, "ignore_hosts") == 0


@pytest.mark.parametrize("option", ("ignore_hosts", "tcp_hosts"))
async def test_a_connection_that_is_passed_over_is_told(
    rig: Rig, confdir: Path, authority: CertificateAuthority, option: str
) -> None:
    """What no look at the options finds: a connection to a pool's host that is not looked into. Once a host."""
    async with Upstream(authority.server_context()) as upstream:
        rig.upstream = upstream
        rig.home("alice")
        more = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), option: ["127.0.0.1"]}
        async with gateway_master(rig.path, confdir=confdir, **more) as gateway:
            for _ in range(2):
                folder = authority.ca_file.parent if option == "ignore_hosts" else confdir
                name = "ca.pem" if option == "ignore_hosts" else "mitmproxy-ca-cert.pem"
                async with proxied(gateway.url, folder, ca=name) as api:
                    assert (await api.get(f"{upstream.url}/x")).status_code == 401
            assert said(gateway.messages, f"what goes to {upstream.authority} is not looked into") == 1
