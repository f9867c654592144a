"""What was decided about a flow, kept beside it: what is in a flow can be saved, exported and shown."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mitmproxy import http

from authpool.config.answer_rule import Meaning
from authpool.config.pool_config import PoolConfig
from authpool.config.routing import Destination
from authpool.proxy.client_access import Admission
from authpool.requests.pooled_request import PooledRequest


@dataclass(slots=True, kw_only=True)
class Ticket:
    """What was decided about a flow, for the destination it had then; without a pooled request it is not ours.

    `awaits_body`: no account is chosen yet. `meaning`: of the upstream's answer; None while only its body can tell.
    `decided`: whether that answer has led to a decision.
    """

    destination: Destination
    shape: tuple[str, str] = ("", "")
    """Method and path, which a pool may be chosen by as well."""
    pooled: PooledRequest | None = None
    pool: PoolConfig | None = None
    admission: Admission | None = None
    """What a client was let in with, where a key was asked for."""
    awaits_body: bool = False
    meaning: Meaning | None = "ok"
    decided: bool = False
    resend: bool = False


type Tickets = WeakKeyDictionary[http.HTTPFlow, Ticket]
"""The tickets of the flows under way; one that is over has none, and what has none gets nothing out."""
