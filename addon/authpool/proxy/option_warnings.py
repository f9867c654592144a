"""Options of mitmproxy that pass a pool's host over, or weaken what is before it: each is said when it does, once."""

import logging
import re
from collections.abc import Iterator, Sequence

from mitmproxy import ctx
from mitmproxy.net.tls import INSECURE_TLS_MIN_VERSIONS
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

from authpool.config import Config, HostPattern
from authpool.config.host_pattern import DEFAULT_PORTS

logger = logging.getLogger(__name__)

_SAMPLES = ("authpool-sample", "a", "www", "api")
"""What a ``*.`` may stand for: options are regular expressions, and all that there is can't be tried."""
_WEAK_CIPHERS = re.compile(r"NULL|ADH|AECDH|EXP|SECLEVEL=0|RC4|\bALL\b|COMPLEMENTOF", re.IGNORECASE)
_ALWAYS = {
    "ssl_insecure": "does not count for pools' hosts, whose certificates are verified all the same",
    "stickycookie": "gives the cookies of one client, and so of one account's session, to others",
    "emudhra": "signs what clients see with a key that others have, who can then read what clients send",
    "emudhra_old": "signs what clients see with a key that others have, who can then read what clients send",
}
OPTIONS = frozenset(
    {
        *("ignore_hosts", "allow_hosts", "tcp_hosts", "udp_hosts", "keep_host_header", "mode"),
        *("validate_inbound_headers", "tls_version_server_min", "ciphers_server"),
        *_ALWAYS,
    }
)
"""The options that are looked at."""


class OptionWarnings:
    """Tells which options touch pools' hosts: all of them at first, later those that are new."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def warn(self, config: Config) -> None:
        """Say what has come up since the last time."""
        found = list(findings(config)) if config.pools else []
        for finding in found:
            if finding not in self._told:
                logger.warning("authpool: %s", finding)
        self._told = frozenset(found)


def findings(config: Config) -> Iterator[str]:
    """What the options in force do to pools' hosts, a sentence each."""
    for name, pool in config.pools.items():
        for pattern in pool.hosts:
            yield from (f"{option}: {pattern} of pool {name} {what}" for option, what in _passed_over(pattern))
    for option, what in _ALWAYS.items():
        if ctx.options.__contains__(option) and getattr(ctx.options, option):
            yield f"{option} {what}"
    if ctx.options.keep_host_header and any(
        isinstance(ProxyMode.parse(mode), ReverseMode) for mode in ctx.options.mode
    ):
        yield "keep_host_header sends an upstream of reverse mode the host that the client names"
    if not ctx.options.validate_inbound_headers:
        yield "validate_inbound_headers is off: what hides a second request in a first one reaches pools' hosts"
    if ctx.options.tls_version_server_min in {version.name for version in INSECURE_TLS_MIN_VERSIONS}:
        yield "tls_version_server_min lets pools' hosts be spoken to by versions of TLS that others can read"
    if ctx.options.ciphers_server and _WEAK_CIPHERS.search(ctx.options.ciphers_server):
        yield "ciphers_server lets pools' hosts be spoken to by ciphers that others can read, or without a certificate"


def _passed_over(pattern: HostPattern) -> Iterator[tuple[str, str]]:
    """The options by which mitmproxy passes a host over, each with what that means."""
    hosts = [pattern.host] if not pattern.wildcard else [f"{label}.{pattern.host}" for label in _SAMPLES]
    ports = [pattern.port] if pattern.port is not None else list(DEFAULT_PORTS.values())
    places = [f"{host}:{port}" for host in hosts for port in ports]
    if _matches(ctx.options.ignore_hosts, places):
        yield "ignore_hosts", "is passed over, and gets no credential"
    if ctx.options.allow_hosts and not all(_matches(ctx.options.allow_hosts, [place]) for place in places):
        yield "allow_hosts", "is not among them: it is passed over, and gets no credential"
    for option in ("tcp_hosts", "udp_hosts"):
        if _matches(getattr(ctx.options, option), hosts):
            yield option, "is relayed as it comes, gets no credential, and what clients send is kept and logged"


def _matches(expressions: Sequence[str], texts: Sequence[str]) -> bool:
    return any(_search(expression, text) for expression in expressions for text in texts)


def _search(expression: str, text: str) -> bool:
    try:
        return re.search(expression, text, re.IGNORECASE) is not None
    except re.error:
        return False  # mitmproxy says what is wrong with it
