"""Where a provider's endpoints are, as its issuer publishes it (OpenID Connect Discovery 1.0, RFC 8414)."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from authpool.config.endpoint_url import check_endpoint
from authpool.config.pool_config import PoolConfig
from authpool.errors import AuthpoolError

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


class DiscoveryError(AuthpoolError):
    """The endpoints could not be learned; `transient` says that trying again may help, as it is."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The URLs of a provider; None: it has no such endpoint, as far as is known."""

    token_url: str | None = None
    authorize_url: str | None = None
    device_url: str | None = None
    userinfo_url: str | None = None
    revoke_url: str | None = None


class EndpointResolver:
    """Answers the endpoints of a pool: what its configuration says, the rest as its issuer says.

    An issuer is asked once; many callers await the same question. Only a success is kept.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._known: dict[str, Endpoints] = {}
        self._asking: dict[str, asyncio.Task[Endpoints]] = {}

    async def resolve(self, pool: PoolConfig) -> Endpoints:
        """Answer the endpoints of a pool; asks only if there is something to learn. Raises DiscoveryError."""
        own = {key: getattr(pool, key) for key in _METADATA_NAMES}
        if pool.issuer is None or all(own.values()):
            return Endpoints(**own)
        published = await self._published(pool.issuer)
        endpoints = Endpoints(**{key: own[key] or getattr(published, key) for key in _METADATA_NAMES})
        if endpoints.token_url is None:
            raise DiscoveryError(f"issuer {pool.issuer} publishes no token_endpoint", transient=False)
        return endpoints

    def known_token_url(self, pool: PoolConfig) -> str | None:
        """The pool's token endpoint, as far as it is known without asking anybody."""
        published = self._known.get(pool.issuer or "")
        return pool.token_url or (None if published is None else published.token_url)

    def forget(self) -> None:
        """Ask every issuer again when its endpoints are needed next."""
        self._known.clear()

    async def aclose(self) -> None:
        """Give up the questions under way, and wait until they have ended."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _published(self, issuer: str) -> Endpoints:
        known = self._known.get(issuer)
        if known is not None:
            return known
        task = self._asking.get(issuer)
        if task is None:
            task = asyncio.create_task(discover(issuer, self._fetch), name=f"discover {issuer}")
            self._asking[issuer] = task
            task.add_done_callback(lambda done: self._keep(issuer, done))
        return await asyncio.shield(task)  # a caller that gives up takes nobody along

    def _keep(self, issuer: str, task: asyncio.Task[Endpoints]) -> None:
        del self._asking[issuer]
        if not task.cancelled() and task.exception() is None:
            self._known[issuer] = task.result()


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
    return Endpoints(**{key: _endpoint(issuer, metadata, name) for key, name in _METADATA_NAMES.items()})


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
        message = f"issuer {issuer} does not answer at {url}: {type(error).__name__}"
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
