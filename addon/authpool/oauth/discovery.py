"""Where a provider's endpoints are, as its issuer publishes it (OpenID Connect Discovery 1.0, RFC 8414)."""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from authpool.clock import Clock, SystemClock
from authpool.config.endpoint_url import check_endpoint
from authpool.config.pool_config import PoolConfig
from authpool.errors import AuthpoolError

logger = logging.getLogger(__name__)

PAUSE_SECONDS = (1.0, 15.0)
"""Between questions to an issuer that failed: doubled from the first to the second, and jittered down to half."""

type Patience = Literal["request", "probe", "force"]
"""Of an issuer that failed last time: a request is answered at once, a probe asks when that is due, force asks now."""
type Fetch = Callable[[str], Awaitable[tuple[int, bytes]]]
"""GET a URL without following redirects: status and body, at most 1 MiB of it. Raises when none comes."""

_OPENID = "/.well-known/openid-configuration"
_OAUTH = "/.well-known/oauth-authorization-server"
_METADATA_NAMES = {
    "token_url": "token_endpoint",
    "authorize_url": "authorization_endpoint",
    "device_url": "device_authorization_endpoint",  # RFC 8628 §4
    "userinfo_url": "userinfo_endpoint",
    "revoke_url": "revocation_endpoint",
}
_NAMES_ITSELF = "authorization_response_iss_parameter_supported"


class DiscoveryError(AuthpoolError):
    """The endpoints could not be learned; `transient` says that trying again may help, as it is.

    `retry_after_seconds` is how long the issuer is not asked any more, where it was not asked now either.
    """

    error_code = "discovery"

    def __init__(self, message: str, *, transient: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The URLs of a provider; None: it has no such endpoint, as far as is known."""

    token_url: str | None = None
    authorize_url: str | None = None
    device_url: str | None = None
    userinfo_url: str | None = None
    revoke_url: str | None = None
    names_itself: bool = False
    """Whether the answers of the authorization endpoint have the parameter `iss` (RFC 9207 §3)."""


@dataclass(slots=True, kw_only=True)
class _Trouble:
    """An issuer's failures since it last answered; `until` is monotonic seconds."""

    error: DiscoveryError
    pause: float = 0.0
    until: float = 0.0


class EndpointResolver:
    """Answers the endpoints of a pool: what its configuration says, the rest as its issuer says.

    An issuer is asked once; many callers await the same question. Only a success is kept. One that failed is asked
    again after a pause that grows.
    """

    def __init__(self, fetch: Fetch, clock: Clock | None = None, rng: random.Random | None = None) -> None:
        self._fetch = fetch
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads questions, guards nothing
        self._known: dict[str, Endpoints] = {}
        self._asking: dict[str, asyncio.Task[Endpoints]] = {}
        self._troubles: dict[str, _Trouble] = {}
        self._pools: dict[str, set[str]] = {}
        """Who needs which issuer, as far as they asked; for people."""

    async def resolve(self, pool: PoolConfig, patience: Patience = "force") -> Endpoints:
        """Answer the endpoints of a pool; asks only if there is something to learn. Raises DiscoveryError."""
        own = {key: getattr(pool, key) for key in _METADATA_NAMES}
        if pool.issuer is None or all(own.values()):
            return Endpoints(**own)
        self._pools.setdefault(pool.issuer, set()).add(pool.name)
        published = await self._published(pool.issuer, patience)
        endpoints = replace(published, **{key: url for key, url in own.items() if url})
        if endpoints.token_url is None:
            raise DiscoveryError(f"issuer {pool.issuer} publishes no token_endpoint", transient=False)
        return endpoints

    def ask_ahead(self, pools: Iterable[PoolConfig]) -> None:
        """Ask the issuers that these pools cannot do without, and tell now, not at the first refresh, what is wrong."""
        for pool in pools:
            if pool.issuer is not None and pool.token_url is None and pool.issuer not in self._known:
                self._pools.setdefault(pool.issuer, set()).add(pool.name)
                self._question(pool.issuer)

    def known_token_url(self, pool: PoolConfig) -> str | None:
        """The pool's token endpoint, as far as it is known without asking anybody."""
        published = self._known.get(pool.issuer or "")
        return pool.token_url or (None if published is None else published.token_url)

    def forget(self) -> None:
        """Ask every issuer again when its endpoints are needed next."""
        self._known.clear()
        self._troubles.clear()
        self._pools.clear()

    async def aclose(self) -> None:
        """Give up the questions under way, and wait until they have ended."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _published(self, issuer: str, patience: Patience) -> Endpoints:
        known = self._known.get(issuer)
        if known is not None:
            return known
        trouble = self._troubles.get(issuer)
        if trouble is not None and patience != "force":
            wait = trouble.until - self._clock.monotonic()
            if patience == "request" or wait > 0 or issuer in self._asking:
                raise _again(trouble.error, max(wait, PAUSE_SECONDS[0]))
        return await asyncio.shield(self._question(issuer))  # a caller that gives up takes nobody along

    def _question(self, issuer: str) -> asyncio.Task[Endpoints]:
        task = self._asking.get(issuer)
        if task is None:
            task = asyncio.create_task(discover(issuer, self._fetch), name=f"discover {issuer}")
            self._asking[issuer] = task
            task.add_done_callback(lambda done: self._keep(issuer, done))
        return task

    def _keep(self, issuer: str, task: asyncio.Task[Endpoints]) -> None:
        del self._asking[issuer]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._known[issuer] = task.result()
            if self._troubles.pop(issuer, None) is not None:
                logger.warning("Issuer %s answers now", issuer)
        elif isinstance(error, DiscoveryError):
            self._note(issuer, error)

    def _note(self, issuer: str, error: DiscoveryError) -> None:
        """Pause before the next question; the first failure of an issuer is told."""
        trouble = self._troubles.get(issuer)
        if trouble is None:
            trouble = self._troubles[issuer] = _Trouble(error=error)
            where = ", ".join(f"pools.{name}.issuer" for name in sorted(self._pools.get(issuer, ()))) or "issuer"
            # A warning: mitmproxy ends when an error is logged while it starts.
            logger.warning("%s; it is asked again. Is the URL right? See authpool.toml: %s", error, where)
        shortest, longest = PAUSE_SECONDS
        trouble.error = error
        trouble.pause = min(longest, max(shortest, trouble.pause * 2))
        trouble.until = self._clock.monotonic() + trouble.pause * self._rng.uniform(0.5, 1.0)


def _again(error: DiscoveryError, wait: float) -> DiscoveryError:
    return DiscoveryError(str(error), transient=error.transient, retry_after_seconds=wait)


async def discover(issuer: str, fetch: Fetch) -> Endpoints:
    """Ask an issuer for its metadata: as OpenID provider, then as OAuth server. Raises DiscoveryError."""
    try:
        metadata = await _metadata(issuer, openid_url(issuer), fetch)
    except DiscoveryError as first:
        if first.transient:
            raise
        try:
            metadata = await _metadata(issuer, oauth_url(issuer), fetch)
        except DiscoveryError as second:
            raise DiscoveryError(f"{first}; {second}", transient=second.transient) from None
    _check_issuer(issuer, metadata)
    endpoints = {key: _endpoint(issuer, metadata, name) for key, name in _METADATA_NAMES.items()}
    return Endpoints(**endpoints, names_itself=metadata.get(_NAMES_ITSELF) is True)


def openid_url(issuer: str) -> str:
    """Append the well-known path to the issuer (OpenID Connect Discovery 1.0 §4)."""
    return issuer.removesuffix("/") + _OPENID


def oauth_url(issuer: str) -> str:
    """Put the well-known path between the issuer's host and path (RFC 8414 §3.1)."""
    parts = urlsplit(issuer)
    return urlunsplit((parts.scheme, parts.netloc, _OAUTH + parts.path.removesuffix("/"), "", ""))


async def _metadata(issuer: str, url: str, fetch: Fetch) -> Mapping[str, Any]:
    try:
        status, body = await fetch(url)
    except Exception as error:  # the transport's own errors are not known here, and all mean: no answer
        told = str(error) if type(error) is OSError and error.errno is None else type(error).__name__
        message = f"issuer {issuer} does not answer at {url}: {told}"
        raise DiscoveryError(message, transient=True) from error
    if status != 200:
        transient = status >= 500 or status in (408, 429)
        raise DiscoveryError(f"issuer {issuer} answers {status} at {url}", transient=transient)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DiscoveryError(f"issuer {issuer} answers no JSON object at {url}", transient=False)
    return document


def _check_issuer(issuer: str, metadata: Mapping[str, Any]) -> None:
    """RFC 8414 §3.3: must be identical, or somebody else's metadata is served here."""
    stated = metadata.get("issuer")
    if stated == issuer:
        return
    close = isinstance(stated, str) and stated.removesuffix("/") == issuer.removesuffix("/")
    hint = f"; write it as {stated}" if close else ""
    raise DiscoveryError(f"the metadata of issuer {issuer} names another issuer{hint}", transient=False)


def _endpoint(issuer: str, metadata: Mapping[str, Any], name: str) -> str | None:
    url = metadata.get(name)
    if url is None:
        return None
    if not isinstance(url, str):
        raise DiscoveryError(f"{name} of issuer {issuer} is not a string", transient=False)
    try:
        check_endpoint(url)
    except ValueError as error:
        raise DiscoveryError(f"{name} of issuer {issuer} {str(error).rstrip('.')}", transient=False) from None
    return url
