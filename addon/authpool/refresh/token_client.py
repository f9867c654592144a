"""HTTP towards token endpoints: one request, one answer, nothing clever. The only module that knows httpx."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol

import httpx

from authpool.refresh.verdict import Answer, NotSent, Reply, ReplyLost

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 8.0
"""Silence after sending. Short enough that the same token can be presented again within 10 s of the first time,
which is inside the grace windows that providers publish."""
MAX_BODY_BYTES = 1024 * 1024


class TokenEndpoint(Protocol):
    """What the refresh protocol needs of HTTP; tests hand in one that is scripted."""

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Send one form and return what came of it; raises nothing but cancellation."""

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Fetch a document (discovery, userinfo) under the same limits."""


class TokenClient:
    """httpx with everything off that could repeat, redirect, reroute or remember a token request.

    No retry in the transport, no redirects, no proxy or .netrc from the environment (HTTPS_PROXY may point at this
    very gateway), no kept-alive connection (a stale one makes a lost reply of a request that was never read), no
    cookies (one account's session is not another's).
    """

    def __init__(
        self,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        self._client = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            # Certificates are the one thing taken from the environment: SSL_CERT_FILE names a company's own CA.
            verify=httpx.create_ssl_context(trust_env=True),
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx.Timeout(answer_seconds, connect=connect_seconds),
            limits=httpx.Limits(max_keepalive_connections=0, max_connections=None),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "authpool"},
        )

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        return await self._ask("POST", url, dict(form), headers)

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        return await self._ask("GET", url, None, headers)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, url: str, form: dict[str, str] | None, headers: Mapping[str, str]) -> Answer:
        try:
            # httpx counts each read by itself; an answer that drips would never end.
            async with asyncio.timeout(self._connect_seconds + self._answer_seconds):
                return await self._exchange(method, url, form, headers)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
            httpx.LocalProtocolError,  # what was to be sent is no HTTP: found before the first byte
        ) as error:
            return NotSent(detail=f"no connection ({type(error).__name__})")
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            return ReplyLost(detail=f"the answer did not arrive ({type(error).__name__})")

    async def _exchange(self, method: str, url: str, form: dict[str, str] | None, headers: Mapping[str, str]) -> Answer:
        async with self._client.stream(method, url, data=form, headers=dict(headers)) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return ReplyLost(detail=f"HTTP {response.status_code} with more than {MAX_BODY_BYTES} bytes")
            return Reply(
                status=response.status_code,
                body=bytes(body),
                retry_after=response.headers.get("retry-after"),
            )


def fetcher(endpoint: TokenEndpoint) -> Callable[[str], Awaitable[tuple[int, bytes]]]:
    """Fetch public documents (discovery) through a token endpoint's limits; raises OSError when no answer came."""

    async def fetch(url: str) -> tuple[int, bytes]:
        answer = await endpoint.get(url, {})
        if isinstance(answer, Reply):
            return answer.status, answer.body
        raise OSError(answer.detail)

    return fetch
