"""What an upstream tells of its limits: how much is left of a quota, and when to come again. Pure.

Three ways of saying it are in use, and all of them are read: the `RateLimit` field of the IETF's draft
(draft-ietf-httpapi-ratelimit-headers, in its present form ``"default";r=50;t=30`` and in the older one with three
fields of their own), and the `X-RateLimit-*` fields of the services that came before it. `Retry-After` is RFC 9110
§10.2.3.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from authpool.oauth.http_date import http_date

type Header = Callable[[str], str | None]
"""The value of an answer's header by its name, in any case; None when it is absent."""

_EPOCH_FROM = 1_000_000_000
"""A reset that is larger is a time (Unix seconds), a smaller one so many seconds from now: both are in use."""
_LONGEST_SECONDS = 31 * 86400.0
_LONGEST_TEXT = 100
"""Characters. No date and no span is longer; an upstream may write anything."""
_PREFIXES = ("ratelimit", "x-ratelimit", "x-rate-limit")
_KINDS = ("", "-requests")
"""Where a service counts requests and tokens apart, the requests are what an account is spared by."""
_MEMBER = re.compile(r"(?:^|;)\s*(?P<key>[a-z]+)\s*=\s*(?P<value>\d{1,18})(?=\s*(?:;|,|$))")
_SPAN = re.compile(r"(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)")
_SPANS = re.compile(rf"(?:{_SPAN.pattern})+")
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:?\d\d)$")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many requests are left, of how many, and when the count starts anew (Unix seconds); None is unknown."""

    remaining: int
    limit: int | None = None
    resets_at: float | None = None

    @property
    def share(self) -> float:
        """What is left, as a part of the whole; 1.0 where the whole is unknown and something is left."""
        return min(1.0, self.remaining / self.limit) if self.limit else float(self.remaining > 0)


def retry_after(header: Header, now: float) -> float | None:
    """When to come again (Unix seconds) by `Retry-After`, in seconds or as a date; None when it says neither."""
    text = (header("retry-after") or "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return now + min(float(text), _LONGEST_SECONDS)
    try:
        at = http_date(text) if text else None
    except (ValueError, OverflowError):
        return None
    return None if at is None else min(max(at, now), now + _LONGEST_SECONDS)


def quota_of(header: Header, now: float) -> Quota | None:
    """What is left by the answer's rate limit fields; the scarcest, where several limits are told."""
    combined = header("ratelimit")
    if combined is not None and (quota := _of_combined(combined, header("ratelimit-policy") or "", now)) is not None:
        return quota
    found = [_of_fields(header, prefix, kind, now) for prefix in _PREFIXES for kind in _KINDS]
    return min((quota for quota in found if quota is not None), key=lambda quota: quota.share, default=None)


def _of_combined(text: str, policy: str, now: float) -> Quota | None:
    """``"a";r=50;t=30, "b";r=9;t=60``; or, in an older draft, one limit as ``limit=100, remaining=5, reset=30``.

    The whole is in a field of its own, the policy: ``"a";q=100;w=60, "b";q=10;w=3600``.
    """
    quotas = []
    wholes = {_named(part): dict(_members(part)).get("q") for part in policy.split(",")}
    members = [dict(_members(part)) for part in text.split(",")]
    if all("remaining" not in member for member in members):
        for part, member in zip(text.split(","), members, strict=True):
            if "r" in member:
                resets_at = now + min(member["t"], _LONGEST_SECONDS) if "t" in member else None
                limit = member.get("q", wholes.get(_named(part)))
                quotas.append(Quota(remaining=member["r"], limit=limit, resets_at=resets_at))
        return min(quotas, key=lambda quota: (quota.share, quota.remaining), default=None)
    merged = {key: value for member in members for key, value in member.items()}
    resets_at = now + min(merged["reset"], _LONGEST_SECONDS) if "reset" in merged else None
    return Quota(remaining=merged["remaining"], limit=merged.get("limit"), resets_at=resets_at)


def _named(part: str) -> str:
    return part.partition(";")[0].strip().strip('"')


def _members(part: str) -> list[tuple[str, int]]:
    return [(match["key"], int(match["value"])) for match in _MEMBER.finditer(part.strip())]


def _of_fields(header: Header, prefix: str, kind: str, now: float) -> Quota | None:
    remaining = _whole(header(f"{prefix}-remaining{kind}"))
    if remaining is None:
        return None
    return Quota(
        remaining=remaining,
        limit=_whole(header(f"{prefix}-limit{kind}")),
        resets_at=_reset(header(f"{prefix}-reset{kind}"), now),
    )


def _whole(text: str | None) -> int | None:
    match = re.match(r"\s*(-?\d{1,18})", text or "")  # a policy may follow: `100, 100;w=60`
    return max(0, int(match[1])) if match else None


def _reset(text: str | None, now: float) -> float | None:
    text = (text or "").strip()
    if len(text) > _LONGEST_TEXT:
        return None
    if re.fullmatch(r"\d{1,13}(\.\d+)?", text):
        value = float(text)
        if value >= _EPOCH_FROM * 1000:
            value /= 1000  # milliseconds
        at = value if value >= _EPOCH_FROM else now + value
    elif _SPANS.fullmatch(text):
        at = now + sum(float(value) * _UNIT_SECONDS[unit] for value, unit in _SPAN.findall(text))  # `1m30s`
    else:
        try:
            at = datetime.fromisoformat(text).timestamp() if _ISO_DATE.match(text) else http_date(text)
        except (ValueError, OverflowError):
            return None
    return min(max(at, now), now + _LONGEST_SECONDS)
