"""What a pool is, once authpool.toml has been read: frozen types and nothing that acts."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from authpool.config.answer_rule import AnswerRule
from authpool.config.client_key import ClientKey
from authpool.config.client_secret import SecretSource
from authpool.config.host_pattern import HostPattern
from authpool.config.selector import Selector
from authpool.config.token_extras import TokenExtras

type PoolType = Literal["refresh_token", "client_credentials", "static"]
"""The kinds of credential that need no plugin."""
ECHOING_METHODS = frozenset({"TRACE", "TRACK"})
"""What an upstream answers with the request as it arrived (RFC 9110 §9.3.8; TRACK is Microsoft's)."""
type ClientAuth = Literal["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The client a pool refreshes as, and how it authenticates (RFC 6749 §2.3).

    A gateway has looked its `client_secret` up when it starts, so that one that changed makes another pool of it at
    a reload; the command line asks `secret()` when it needs one. A `client_key` is read whenever something is signed.
    `assertion_audience` is whom signed assertions are for; None: the token endpoint.
    """

    client_id: str
    client_secret: str | SecretSource | None = field(default=None, repr=False)
    client_auth: ClientAuth = "none"
    client_key: ClientKey | None = None
    assertion_audience: str | None = None

    def secret(self) -> str | None:
        """The client secret itself. Raises ConfigurationError when it can't be had."""
        return self.client_secret.resolve() if isinstance(self.client_secret, SecretSource) else self.client_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderInjection:
    """The credential goes on as a header; `template` holds ``{token}`` once."""

    header: str = "Authorization"
    template: str = "Bearer {token}"

    def render(self, token: str) -> str:
        return self.template.replace("{token}", token)

    def shown(self, placeholder: str) -> str:
        """What a flow shows in the place of the credential."""
        return self.render(placeholder)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicInjection:
    """The credential goes on as HTTP Basic (RFC 7617); `template` is user and password with ``{token}`` in one."""

    header: ClassVar[str] = "Authorization"
    template: str

    def render(self, token: str) -> str:
        return f"Basic {self.encoded(token)}"

    def encoded(self, token: str) -> str:
        """User and password in Base64. Raises ValueError for a token that would be more than a user's name."""
        user, _, _ = self.template.partition(":")
        if "{token}" in user and ":" in token:
            raise ValueError("the access token holds a colon, which no user's name may have")
        return b64encode(self.template.replace("{token}", token).encode()).decode()

    def shown(self, placeholder: str) -> str:
        return f"Basic {placeholder}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryInjection:
    """The credential goes on as a query parameter; what `render` answers is not yet percent-encoded."""

    parameter: str
    template: str = "{token}"

    def render(self, token: str) -> str:
        return self.template.replace("{token}", token)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInjection:
    """A plugin puts the credential on, at the wire; `options` are the plugin's to read.

    `by_type`: it is the plugin of the pool's `type` that does, with the options of that.
    """

    header: ClassVar[str] = "Authorization"
    """Where a flow shows the placeholder."""
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    by_type: bool = False

    def shown(self, placeholder: str) -> str:
        return placeholder


type Injection = HeaderInjection | BasicInjection | QueryInjection | PluginInjection
"""How a pool's credential is put on a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaReserve:
    """What of an account's quota is not to be used: so many requests, or such a share of the whole."""

    requests: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInConfig:
    """How people sign in: parameters of the authorization request beside its own, and where its answer comes to.

    `redirect_ports` are tried in their order; none of them means any free one. `issuers` are the names that the
    provider gives itself in `iss`, with ``{tenantid}`` for the claim `tid`; none: they are not known.
    `refresh_scope` is the scope without which this provider issues no refresh token, where that is known.
    """

    authorize_params: Mapping[str, str] = field(default_factory=dict)
    redirect_host: str = "127.0.0.1"
    redirect_ports: tuple[int, ...] = ()
    redirect_path: str = "/callback"
    issuers: tuple[str, ...] = ()
    refresh_scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """One ``[pools.NAME]``. Empty `paths` or `methods` don't narrow; an absent endpoint may be discovered.

    `type` is a PoolType, or the name of a plugin's token source; `type_options` and `rotation_options` are what stands
    beside the name, for the plugin that provides it.
    What an upstream's rate limits do: `cooldown_by` tells which requests share an account's cooldown, `wait_seconds`
    how long a request may wait for the first account to come back, `quota_reserve` what is spared, and
    `max_cooldown_seconds` how long a pause is that no quota confirms.
    `stream_types` are the media ranges of answers that go to the client as they come, beside those known as streams.
    `allowed_origins` are the web pages, by their origins, that may use the pool across sites.
    `redact_echo`: a body that repeats the credential reaches the client without it, as it does the flow.
    `token_extras` is what every token request carries beside the grant's own parameters.
    `codes` maps this provider's error codes to the standard ones they stand for: what stands in `error`, a number in
    `error_codes`, a code in the description (AADSTS50196), or, with a space in it, the whole of a description.
    `home` is the gateway's: its owner is trusted with what the pool's plugins read and run.
    """

    name: str
    type: str = "refresh_token"
    type_options: Mapping[str, Any] = field(default_factory=dict)
    hosts: tuple[HostPattern, ...]
    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    client: ClientConfig | None = None
    issuer: str | None = None
    token_url: str | None = None
    authorize_url: str | None = None
    device_url: str | None = None
    userinfo_url: str | None = None
    revoke_url: str | None = None
    scopes: tuple[str, ...] = ()
    sign_in: SignInConfig = field(default_factory=SignInConfig)
    inject: Injection = field(default_factory=HeaderInjection)
    rotation: str = "round_robin"
    rotation_options: Mapping[str, Any] = field(default_factory=dict)
    cooldown_by: Selector = field(default_factory=Selector)
    wait_seconds: int = 0
    quota_reserve: QuotaReserve | None = None
    max_cooldown_seconds: int = 300
    answers: tuple[AnswerRule, ...] = ()
    stream_types: tuple[str, ...] = ()
    redact_echo: bool = False
    allow_plaintext: bool = False
    allowed_origins: frozenset[str] = frozenset()
    codes: Mapping[str, str] = field(default_factory=dict)
    token_extras: TokenExtras = field(default_factory=TokenExtras)
    preset: str | None = None
    home: Path = field(default=Path("/"), compare=False)
