"""How a request ended, as something that can be told on: to the access log now, to whoever counts later. Pure."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnd:
    """One request that was answered, or broke off. It holds no secret, and nothing of its query.

    `at` is Unix seconds. `client` is the name of the client whose gateway key was shown, else the `address` that the
    request came from. `pool` and `account` are empty where none was chosen, `status` is None where
    no answer came.
    `outcome`: the code of the gateway's own answer, ``health``, ``answered`` (by the upstream) or ``error``.
    `waited_seconds`: how long the request waited for an access token.
    """

    at: float
    client: str
    method: str
    host: str
    path: str
    address: str = ""
    pool: str = ""
    account: str = ""
    attempts: int = 0
    status: int | None = None
    waited_seconds: float = 0.0
    outcome: str = "answered"


type Observe = Callable[[RequestEnd], None]
"""Hears of each request's end, on the event loop: it must not wait for anything."""
