"""HTTP towards token endpoints: one request, one answer, nothing clever. The only module that knows httpx."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol

import httpx

from authpool.oauth.content_coding import codings, decoded
from authpool.oauth.damaged_answer import read_damaged
from authpool.oauth.long_body import MAX_BODY_BYTES, LongBody
from authpool.oauth.received_bytes import ReceivedBytes, recorded
from authpool.oauth.verdict import Answer, NotSent, Reply, ReplyLost

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 8.0
"""Silence after sending. Short enough that the same token can be presented again within 10 s of the first time,
which is inside the grace windows that providers publish."""

type Form = Mapping[str, str | list[str]]
"""Fields; one with a list is sent once for each value."""


class TokenEndpoint(Protocol):
    """What the refresh protocol needs of HTTP; tests hand in one that is scripted."""

    async def post(self, url: str, form: Form, headers: Mapping[str, str]) -> Answer:
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
            transport=transport or recorded(_transport()),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx.Timeout(answer_seconds, connect=connect_seconds),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "authpool"},
        )

    async def post(self, url: str, form: Form, headers: Mapping[str, str]) -> Answer:
        return await self._ask("POST", url, dict(form), headers)

    async def post_json(self, url: str, document: Mapping[str, object], headers: Mapping[str, str]) -> Answer:
        """Send one JSON document, as APIs want it that are no token endpoints of OAuth."""
        return await self._ask(
            "POST", url, json.dumps(document).encode(), {"Content-Type": "application/json", **headers}
        )

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        return await self._ask("GET", url, None, headers)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(
        self, method: str, url: str, form: dict[str, str | list[str]] | bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        async with ReceivedBytes() as received:
            return await self._ask_once(received, method, url, form, headers)

    async def _ask_once(
        self,
        received: ReceivedBytes,
        method: str,
        url: str,
        form: dict[str, str | list[str]] | bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        arrived = _Arrived()
        try:
            # httpx counts each read by itself; an answer that drips would never end.
            async with asyncio.timeout(self._connect_seconds + self._answer_seconds):
                await self._exchange(arrived, method, url, form, headers)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
            httpx.LocalProtocolError,  # what was to be sent is no HTTP: found before the first byte
        ) as error:
            return _not_sent(error)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            if isinstance(error, httpx.RemoteProtocolError):
                await received.read_on(self._answer_seconds)
            arrived.take_damaged(bytes(received.data))
            return arrived.lost(f"did not arrive ({type(error).__name__})")
        if arrived.take_surplus(bytes(received.data)):
            return arrived.lost("is longer than it says")
        return arrived.answer()

    async def _exchange(
        self,
        arrived: "_Arrived",
        method: str,
        url: str,
        form: dict[str, str | list[str]] | bytes | None,
        headers: Mapping[str, str],
    ) -> None:
        fields, content = (None, form) if isinstance(form, bytes) else (form, None)
        sent = self._client.stream(method, url, data=fields, content=content, headers=dict(headers))
        async with sent as response:
            arrived.status = response.status_code
            arrived.headers = response.headers
            plain = not codings(response.headers.get("content-encoding", ""))
            body = arrived.body = LongBody(search=form is not None and response.is_success and plain)
            async for chunk in response.aiter_raw():  # as it was sent: httpx would decompress without a limit
                if not body.feed(chunk):
                    return


@dataclass(slots=True, kw_only=True)
class _Arrived:
    """As much of an answer as came, whatever ended it."""

    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers, repr=False)
    body: LongBody = field(default_factory=lambda: LongBody(search=False), repr=False)

    def take_damaged(self, received: bytes) -> None:
        """Take from what the connection received what HTTP does not give."""
        found = read_damaged(received)
        if found is None:
            return
        if self.status is None:
            self.status, self.headers = found.status, httpx.Headers(dict(found.headers))
        if len(found.body) > len(self.body.content()):
            self.body = _whole_of(found.body)

    def take_surplus(self, received: bytes) -> bool:
        """Take what follows the end that the answer itself tells; whether there was anything."""
        found = read_damaged(received)
        body = self.body.content()
        if found is None or not found.body.startswith(body) or not found.body[len(body) :].strip():
            return False
        self.body = _whole_of(found.body)
        return True

    def answer(self) -> Answer:
        """The whole answer; what is too long, or compressed and damaged, did not come whole."""
        content, whole = self._content()
        if self.status is None or not whole:
            too_long = len(content) >= MAX_BODY_BYTES
            return self.lost(f"is more than {MAX_BODY_BYTES} bytes" if too_long else "can't be decompressed")
        return Reply(
            status=self.status,
            body=content,
            retry_after=self.headers.get("retry-after"),
            content_type=self.headers.get("content-type"),
        )

    def lost(self, why: str) -> ReplyLost:
        subject = "the answer" if self.status is None else f"the answer (HTTP {self.status})"
        return ReplyLost(
            detail=f"{subject} {why}",
            status=self.status,
            body=self._content()[0],
            retry_after=self.headers.get("retry-after"),
            content_type=self.headers.get("content-type"),
        )

    def _content(self) -> tuple[bytes, bool]:
        content, whole = decoded(self.body.content(), self.headers.get("content-encoding", ""), MAX_BODY_BYTES)
        return content, whole and not self.body.is_too_long


def _whole_of(data: bytes) -> LongBody:
    body = LongBody(search=False)
    body.feed(data)
    return body


def _transport() -> httpx.AsyncHTTPTransport:
    """Certificates are the one thing taken from the environment: SSL_CERT_FILE names a company's own CA."""
    return httpx.AsyncHTTPTransport(
        verify=httpx.create_ssl_context(trust_env=True),
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0, max_connections=None),
    )


def _not_sent(error: Exception) -> NotSent:
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return NotSent(detail="connection refused", nobody=True)
        if isinstance(cause, socket.gaierror):
            return NotSent(detail="the host name can't be found", nobody=True)
    return NotSent(detail=f"no connection ({type(error).__name__})")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def fetcher(endpoint: TokenEndpoint) -> Callable[[str], Awaitable[tuple[int, bytes]]]:
    """Fetch public documents (discovery) through a token endpoint's limits; raises OSError when no answer came."""

    async def fetch(url: str) -> tuple[int, bytes]:
        answer = await endpoint.get(url, {})
        if isinstance(answer, Reply):
            return answer.status, answer.body
        raise OSError(answer.detail)

    return fetch
