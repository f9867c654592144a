"""What was decided about a flow, kept beside it: what is in a flow can be saved, exported and shown."""

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from mitmproxy import http

from authpool.config.answer_rule import Meaning
from authpool.config.pool_config import PoolConfig
from authpool.config.routing import Destination
from authpool.proxy.client_access import Admission
from authpool.proxy.request_head import Fields, Head
from authpool.requests.guarded_injector import GuardedInjector
from authpool.requests.injector import OutgoingRequest
from authpool.requests.pooled_request import PooledRequest


@dataclass(slots=True, kw_only=True)
class Injection:
    """What a plugin puts on the request, and has put on it.

    `outgoing` is the request as it went out last, as the injector was shown it, and `secrets` what an answer may repeat
    of that. `again`: an answer asks for the same request with a new injection; so often it was done is `repeats`.
    """

    injector: GuardedInjector
    outgoing: OutgoingRequest | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    again: bool = False
    repeats: int = 0


@dataclass(slots=True, kw_only=True)
class Ticket:
    """What was decided about a flow, for the destination it had then; without a pooled request it is not ours.

    `awaits_body`: no account is chosen yet. `meaning`: of the upstream's answer; None while only its body can tell.
    `decided`: whether that answer has led to a decision.
    """

    destination: Destination
    head: Head = (b"", b"", b"", ())
    """What the request was when it was decided about: what is another by the time it goes out is looked at again."""
    pooled: PooledRequest | None = None
    pool: PoolConfig | None = None
    admission: Admission | None = None
    """What a client was let in with, where a key was asked for."""
    awaits_body: bool = False
    meaning: Meaning | None = "ok"
    decided: bool = False
    resend: bool = False
    exchange: bool = False
    """Whether it is for a pool's own token endpoint."""
    injection: Injection | None = None
    """Where a plugin puts the credential on."""
    hidden: Fields = field(default=(), repr=False)
    """The fields of such a request as the client sent them, where the flow shows less."""


type Tickets = WeakKeyDictionary[http.HTTPFlow, Ticket]
"""The tickets of the flows under way; one that is over has none, and what has none gets nothing out."""
