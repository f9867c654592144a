"""HTTP as the demo's own people speak it: one request, one connection, and no proxy from the environment."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from authpool.demo.failure import DemoFailedError

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainAnswer:
    """Status and body; `location` is where a redirect points."""

    status: int
    body: bytes = field(repr=False)
    location: str | None = field(default=None, repr=False)


def fetch(
    url: str, *, method: str = "GET", body: str | None = None, headers: Mapping[str, str] | None = None
) -> PlainAnswer:
    """Send one request to a server of the demo. Raises DemoFailedError when it does not answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PATIENCE_SECONDS)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target or "/", body, dict(headers or {}))
        response = connection.getresponse()
        return PlainAnswer(status=response.status, body=response.read(), location=response.getheader("Location"))
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailedError(f"{parts.netloc} does not answer ({type(error).__name__})") from error
    finally:
        connection.close()
