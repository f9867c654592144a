"""What plugins import. Whatever is here is promised to plugins' authors, and nothing else is.

A plugin is a module with functions marked `hookimpl`; `authpool.plugins.hookspecs` says of each hook when it is
called. What a plugin provides derives from `Rotation`, `TokenSource`, `Injector` or `Store`; what it is told is frozen
data.
"""

from authpool import hookimpl
from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.accounts.events import AccountEvent, PoolEvent, PoolEventKind, PoolExhausted
from authpool.accounts.printable import clip_reason
from authpool.accounts.standing import Standing
from authpool.clients.client import BrokenClient, ClientEntry, GatewayClient, IssuedKey
from authpool.clients.document import client_from_document, document_from_client
from authpool.clients.usage import Usage
from authpool.clock import Clock, SystemClock
from authpool.config import PoolConfig
from authpool.config.client_secret import is_literal, resolve_secret
from authpool.config.config_table import ConfigTable, did_you_mean, mistake
from authpool.config.endpoint_url import check_endpoint
from authpool.config.presets import Preset
from authpool.config.selector import Selector, parse_selector
from authpool.errors import (
    BrokenAccountError,
    BrokenClientError,
    ConfigurationError,
    CredentialDeadError,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    HoldLostError,
    InjectionRefusedError,
    RefusedError,
    SealedError,
    StoreError,
    StoreUnavailableError,
    TokenSourceError,
    UnknownAccountError,
)
from authpool.files.programs import find_program
from authpool.oauth.grant_request import basic_authorization
from authpool.oauth.provider_text import harmless_words, without_sent
from authpool.oauth.token_client import TokenClient
from authpool.oauth.verdict import (
    ClientRejected,
    Granted,
    NotSent,
    Reply,
    ReplyLost,
    TryLater,
    judge,
    retry_after_seconds,
)
from authpool.plugins.event_thread import EventThread
from authpool.refresh.token_source import Fetched, TokenSource, TokenSourceFactory, source_options
from authpool.requests.classifier import AnswerClass
from authpool.requests.injector import (
    Injected,
    Injector,
    InjectorFactory,
    OutgoingRequest,
    RequestBody,
    injection_options,
)
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.rotation.hash_ring import HashRing
from authpool.rotation.quota import Quota
from authpool.rotation.ranking import Ranking
from authpool.rotation.rotation import Rotation, RotationFactory, RotationRequest, rotation_options
from authpool.rotation.selection import selected
from authpool.store import (
    Change,
    ClientChange,
    GatewayClientChange,
    Hold,
    Record,
    Rewritten,
    SealedPart,
    SealsSecrets,
    StandingChange,
    Store,
    StoreFactory,
)
from authpool.store.audit import Entry
from authpool.store.client_record import ClientRecord
from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from authpool.store.sealing.sealed_value import Place

__all__ = [
    "Account",
    "AccountEvent",
    "AccountKey",
    "AnswerClass",
    "BrokenAccountError",
    "BrokenClient",
    "BrokenClientError",
    "Change",
    "ClientChange",
    "ClientEntry",
    "ClientRecord",
    "ClientRejected",
    "Clock",
    "ConfigTable",
    "ConfigurationError",
    "CredentialDeadError",
    "CredentialMisconfiguredError",
    "CredentialUnavailableError",
    "Entry",
    "EventThread",
    "Fetched",
    "GatewayClient",
    "GatewayClientChange",
    "Granted",
    "HashRing",
    "Hold",
    "HoldLostError",
    "Injected",
    "InjectionRefusedError",
    "Injector",
    "InjectorFactory",
    "IssuedKey",
    "KeyRing",
    "NotSent",
    "OperatorKey",
    "OutgoingRequest",
    "Place",
    "PoolConfig",
    "PoolEvent",
    "PoolEventKind",
    "PoolExhausted",
    "Preset",
    "Quota",
    "Ranking",
    "Record",
    "RefusedError",
    "Reply",
    "ReplyLost",
    "RequestBody",
    "Rewritten",
    "Rotation",
    "RotationFactory",
    "RotationRequest",
    "SealedError",
    "SealedPart",
    "SealsSecrets",
    "Selector",
    "Standing",
    "StandingChange",
    "Store",
    "StoreError",
    "StoreFactory",
    "StoreUnavailableError",
    "SystemClock",
    "TokenClient",
    "TokenSource",
    "TokenSourceError",
    "TokenSourceFactory",
    "TryLater",
    "UnknownAccountError",
    "UpstreamAnswer",
    "Usage",
    "basic_authorization",
    "check_endpoint",
    "client_from_document",
    "clip_reason",
    "did_you_mean",
    "document_from_client",
    "find_program",
    "fingerprint",
    "harmless_words",
    "hookimpl",
    "injection_options",
    "is_literal",
    "judge",
    "mistake",
    "parse_selector",
    "resolve_secret",
    "retry_after_seconds",
    "rotation_options",
    "selected",
    "source_options",
    "without_sent",
]
