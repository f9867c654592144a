"""webhook: tells a URL when an account is disabled or enabled again, and when a pool is in trouble.

    [plugins.webhook]
    url = "https://alerts.example.com/authpool"
    secret = "env:WEBHOOK_SECRET"       # signs each message; "whsec_..." or any other text
    events = ["account.disabled", "account.enabled", "pool.exhausted", "client.rejected", "client.accepted",
              "endpoint.down", "endpoint.up"]       # the default: all of them

Messages are signed as https://www.standardwebhooks.com says, and sent from a thread of their own: five tries, with
pauses that grow; no request waits for them, and the end of a process for 2 s at most.
"""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import random
import ssl
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from authpool.plugins.api import (
    AccountEvent,
    ConfigTable,
    EventThread,
    PoolEvent,
    PoolEventKind,
    PoolExhausted,
    check_endpoint,
    did_you_mean,
    hookimpl,
    is_literal,
    mistake,
    resolve_secret,
    retry_after_seconds,
)

logger = logging.getLogger(__name__)

DISABLED, ENABLED, EXHAUSTED = "account.disabled", "account.enabled", "pool.exhausted"
OF_POOLS: Mapping[PoolEventKind, str] = {
    "client_rejected": "client.rejected",
    "client_accepted": "client.accepted",
    "endpoint_down": "endpoint.down",
    "endpoint_up": "endpoint.up",
}
TYPES = (DISABLED, ENABLED, EXHAUSTED, *OF_POOLS.values())
PAUSES_SECONDS = (1.0, 5.0, 20.0, 60.0)
"""Between the tries; one more try than there are pauses."""
MAX_PAUSE_SECONDS = 300.0
ANSWER_SECONDS = 5.0
STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where messages go. A webhook's URL may be a secret as a whole, so only its host is ever told."""

    url: str = field(repr=False)
    secret: bytes = field(repr=False)
    types: frozenset[str] = frozenset(TYPES)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


class Webhook:
    """Sends messages to `target`, which may change; None: nowhere."""

    def __init__(self, *, pauses_seconds: tuple[float, ...] = PAUSES_SECONDS) -> None:
        self.target: Target | None = None
        self._pauses = pauses_seconds
        self._event_thread = EventThread("authpool webhook")
        self._stopping = threading.Event()

    def tell(self, kind: str, **message: Any) -> None:
        """Have a message sent, soon."""
        if self.target is not None and kind in self.target.types:
            body = json.dumps({"type": kind, **message}).encode()
            identifier = f"msg_{uuid.uuid4().hex}"
            self._event_thread.post(lambda: self._send(identifier, body), "webhook messages")

    def close(self, patience_seconds: float = STOP_SECONDS) -> None:
        """Send what waits, without pauses, for so long and no longer. Blocks."""
        self._stopping.set()
        self._event_thread.close(patience_seconds)

    def _send(self, identifier: str, body: bytes) -> None:
        for attempt in range(len(self._pauses) + 1):
            target = self.target
            if target is None:
                return
            self._event_thread.busy_with(f"the webhook at {target.host}")
            status, retry_after, problem = _post(target, identifier, body)
            if status is not None and 200 <= status < 300:
                return
            hopeless = status is not None and status not in {408, 425, 429} and status < 500
            if hopeless or self._stopping.is_set() or attempt == len(self._pauses):
                logger.error("A message could not be delivered to the webhook at %s: %s", target.host, problem)
                return
            pause = self._pauses[attempt] * random.uniform(0.75, 1.25)  # noqa: S311 - spreads, guards nothing
            self._stopping.wait(min(MAX_PAUSE_SECONDS, max(pause, retry_after or 0.0)))


def _post(target: Target, identifier: str, body: bytes) -> tuple[int | None, float | None, str]:
    """One try: the status, the seconds of its Retry-After, and the problem in words. No redirects, no proxies."""
    url = urlsplit(target.url)
    host, port = url.hostname or "", url.port
    connection = (
        HTTPSConnection(host, port, timeout=ANSWER_SECONDS, context=ssl.create_default_context())
        if url.scheme == "https"
        else HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    )
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request("POST", path, body, _headers(target, identifier, int(time.time()), body))
        response = connection.getresponse()
        wait = retry_after_seconds(response.getheader("Retry-After"), time.time())
        return response.status, wait, f"it answers {response.status}"
    except (OSError, HTTPException, ValueError) as error:
        return None, None, f"no answer ({type(error).__name__})"
    finally:
        connection.close()


def _headers(target: Target, identifier: str, now: int, body: bytes) -> Mapping[str, str]:
    digest = hmac.new(target.secret, f"{identifier}.{now}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "authpool",
        "webhook-id": identifier,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


class _Current:
    """The webhook of this process, from the first configuration to the end."""

    webhook: Webhook | None = None


def _read_target(options: ConfigTable, home: Path) -> Target | None:
    table = options.only("url", "secret", "events")
    if not any(key in table for key in ("url", "secret", "events")):
        return None
    url, secret = table.take_string("url"), table.take_string("secret")
    if url is None:
        raise mistake(table.at("url"), "is missing.", 'Write url = "https://...".')
    try:
        check_endpoint(url)
    except ValueError as error:
        raise mistake(table.at("url"), str(error), "Use https://; http:// is for loopback only.") from None
    if secret is None or is_literal(secret):
        problem = "is missing." if secret is None else "is written out."
        raise mistake(table.at("secret"), problem, 'Write secret = "env:NAME" or "file:PATH".')
    types = table.take_strings("events") or TYPES
    for index, kind in enumerate(types):
        if kind not in TYPES:
            remedy = did_you_mean(kind, TYPES, f"There are: {', '.join(TYPES)}.")
            raise mistake(table.item("events", index), "there is no such event.", remedy)
    text = resolve_secret(secret, table.at("secret"), home, os.environ)
    return Target(url=url, secret=_key(text, table), types=frozenset(types))


def _key(secret: str, table: ConfigTable) -> bytes:
    """The key that signs: what is encoded behind ``whsec_``, else the text itself."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise mistake(table.at("secret"), "is no base64 after `whsec_`.", "Copy it again.") from None


@hookimpl
def authpool_configure(options: ConfigTable, home: Path) -> None:
    target = _read_target(options, home)
    if target is not None and _Current.webhook is None:
        _Current.webhook = Webhook()
    if _Current.webhook is not None:
        _Current.webhook.target = target


@hookimpl
def authpool_account_event(event: AccountEvent) -> None:
    webhook = _Current.webhook
    if webhook is None:
        return
    account = event.account
    told = {"pool": account.pool, "account": account.name, "reason": event.reason, "at": int(time.time())}
    if event.kind == "disabled":
        webhook.tell(DISABLED, **told | {"at": account.disabled_at or told["at"]})
    elif event.kind in {"enabled", "readded"} and not account.disabled:
        webhook.tell(ENABLED, **told | {"reason": event.reason or f"the account was {_WORDS[event.kind]}"})


_WORDS = {"enabled": "enabled again", "readded": "added again"}


@hookimpl
def authpool_pool_exhausted(event: PoolExhausted) -> None:
    if _Current.webhook is not None:
        _Current.webhook.tell(
            EXHAUSTED, pool=event.pool, counts=dict(event.counts), retry_at=event.retry_at, at=event.at
        )


@hookimpl
def authpool_pool_event(event: PoolEvent) -> None:
    if _Current.webhook is not None:
        told = {"pool": event.pool, "endpoint": event.endpoint, "reason": event.reason, "at": event.at}
        _Current.webhook.tell(OF_POOLS[event.kind], **told)


@hookimpl
def authpool_stop() -> None:
    webhook, _Current.webhook = _Current.webhook, None
    if webhook is not None:
        webhook.close()
