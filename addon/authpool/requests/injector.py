"""What an injector is: how a plugin puts the credential of a pool's accounts on their requests, at the wire."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from authpool.accounts.account import Account
from authpool.config import PluginInjection, PoolConfig
from authpool.config.config_table import ConfigTable
from authpool.requests.classifier import AnswerClass
from authpool.requests.upstream_answer import UpstreamAnswer


class RequestBody:
    """The body of a request, the same for all its attempts.

    `content` is all of it, empty where there is none; None where it streams, so that nobody has it yet.
    """

    def __init__(self, content: bytes | None) -> None:
        self.content = content

    @cached_property
    def sha256(self) -> str | None:
        """The SHA-256 in hex, reckoned once and when it is asked for; None where the body streams."""
        return None if self.content is None else sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRequest:
    """A request as it goes out, after all that other addons did to it, but for the credential.

    Every character of `target` and `headers` stands for one byte (Latin-1). `headers` are in their order, repeated ones
    too, with names in small letters; what a proxy may yet change (`Connection` and the like, the framing) is among
    them, and not to be signed. `host` is what the upstream is told as Host or ``:authority``.
    """

    method: str
    scheme: str
    host: str
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: RequestBody = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def url(self) -> str:
        """Scheme, host and path, without the query: `htu` of RFC 9449 §4.2."""
        return f"{self.scheme}://{self.host}{self.path}"

    def header(self, name: str) -> str | None:
        """The first header of that name, which is given in small letters."""
        return next((value for known, value in self.headers if known == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """What is put on a request: headers and query parameters, each in the place of all that have its name.

    None takes a name off. Values of parameters are not yet percent-encoded. `secrets` are what an answer that repeats
    it must not show, beside the account's access token; None: every value that is put on.
    """

    headers: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    query: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] | None = field(default=None, repr=False)


class Injector(ABC):
    """Puts the credential on the requests of one pool. A pool has a new one after each reload.

    Its methods are called in the gateway's event loop, for every attempt of every request of the pool: they must not
    wait for anything, and cost what they take of the gateway's time. What takes longer (a token that has to be fetched)
    is a token source's.
    """

    client_headers: frozenset[str] = frozenset()
    """Headers, in small letters, that a client sends credentials of this kind in: taken off when its request arrives,
    so that no flow shows them. Those that every pool takes off, `Authorization` among them, are so anyway."""
    client_parameters: frozenset[str] = frozenset()
    """Query parameters of that kind, in small letters: taken off in any spelling."""

    @abstractmethod
    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        """Say what to put on, for an account whose access token is live.

        Asked again for each attempt: after a refresh, for another account, for the same one. Raises
        InjectionRefusedError where a request can't be signed, for a reason that its client is to be told. Anything else
        that it raises, and an answer that puts on nothing, is a failure: the request is not sent.
        """

    def again(self, request: OutgoingRequest, answer: UpstreamAnswer, account: Account) -> bool:  # noqa: ARG002
        """Hear of an answer, when its headers are there; whether the same request is to be sent with a new injection.

        For what an upstream tells about the next one: a nonce (RFC 9449 §8), its clock. True is for an answer that
        refused this one; it is not held against the account. At most twice for each request, and not for one whose
        body streamed.
        """
        return False

    def meaning(self, answer: UpstreamAnswer) -> AnswerClass:  # noqa: ARG002
        """Say what an answer means for the account, as the hook `authpool_classify_answer`, and before it."""
        return None


type InjectorFactory = Callable[[PoolConfig], Injector]


def injection_options(pool: PoolConfig, *known: str) -> ConfigTable:
    """What `inject = { name = "...", ... }` says beside the name, or `type` where that provides both.

    Raises ConfigurationError for an unknown key.
    """
    inject = pool.inject
    options = inject.options if isinstance(inject, PluginInjection) else {}
    key = "type" if isinstance(inject, PluginInjection) and inject.by_type else "inject"
    return ConfigTable(options, ("pools", pool.name, key), known)
