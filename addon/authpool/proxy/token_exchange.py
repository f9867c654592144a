"""Requests of clients to a pool's own token endpoint: what of them, and of their answers, a flow does not show. Pure.

They pass as they are. What is secret in them is covered in the flow alone: fields of a form (RFC 6749 appendix B) and
of JSON, by their names, and the client's own `Authorization`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from mitmproxy import http

from authpool.config.host_pattern import DEFAULT_PORTS, canonical_host
from authpool.config.pool_config import PoolConfig
from authpool.config.routing import Destination
from authpool.oauth.discovery import EndpointResolver
from authpool.proxy.content import changed
from authpool.proxy.echo import LOOKED_AT_BYTES, Echo, Fields, StreamedEcho

METHODS = frozenset({"POST"})
_NAMES = (
    rb"access_token|refresh_token|id_token|token|client_secret|client_assertion|assertion|code|code_verifier|password"
    rb"|device_code|user_code|subject_token|actor_token|registration_access_token"
)
_FORM_FIELD = re.compile(rb"(?:^|(?<=&))(?:%b)=([^&\s]+)" % _NAMES)
_JSON_FIELD = re.compile(rb'"(?:%b)"\s*:\s*"((?:[^"\\]|\\.)+)' % _NAMES)


def is_token_exchange(
    destination: Destination, path: str, pools: Iterable[PoolConfig], resolver: EndpointResolver
) -> bool:
    """Whether a request is for an endpoint of these pools that takes or gives tokens, as far as those are known."""
    place = _place(*destination, path.partition("?")[0])
    return any(
        url is not None and _place_of(url) == place
        for pool in pools
        for url in (resolver.known_token_url(pool), pool.revoke_url, pool.device_url)
    )


def covered(content: bytes, coding: str = "") -> bytes:
    """A form or JSON with its secrets covered, as long as before unless it is compressed; the same one without any."""
    return changed(content, coding, _covered, LOOKED_AT_BYTES)


def _covered(content: bytes) -> bytes:
    kept = _JSON_FIELD.sub(_mask, content)
    return kept if kept != content else _FORM_FIELD.sub(_mask, content)


class TokenAnswer(Echo):
    """The answer of a token endpoint: the client gets it as it came, and the flow without the tokens."""

    def __init__(self, echo: Echo | None, placeholder: str) -> None:
        super().__init__("", placeholder)
        self._repeated = echo
        self.for_client = echo is not None and echo.for_client

    def fields(self, fields: Fields) -> Fields:
        return fields if self._repeated is None else self._repeated.fields(fields)

    def text(self, text: str) -> str:
        return text if self._repeated is None else self._repeated.text(text)

    def body(self, content: bytes, coding: str = "") -> bytes:
        kept = content if self._repeated is None else self._repeated.body(content, coding)
        result = covered(kept, coding)
        return content if result == content else result

    def stream(self) -> StreamedEcho:
        return super().stream() if self._repeated is None else self._repeated.stream()


def hide_authorization(request: http.Request, placeholder: bytes) -> Fields:
    """Put the placeholder in the place of what a client authenticates by; answers the fields as they were."""
    fields: Fields = request.headers.fields
    request.headers.fields = tuple(
        [(name, placeholder if name.lower() == b"authorization" else value) for name, value in fields]
    )
    return fields if request.headers.fields != fields else ()


def _mask(match: re.Match[bytes]) -> bytes:
    start = match.start(1) - match.start()
    return match[0][:start] + b"*" * len(match[1])


@lru_cache(maxsize=256)
def _place_of(url: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(url)
    return _place(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme), parts.path)


def _place(scheme: str, host: str, port: int | None, path: str) -> tuple[str, str | None, int | None, str]:
    return scheme, canonical_host(host), port, path.rstrip("/")
