"""What an upstream's answer means for the account it was asked with. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from authpool.config.answer_rule import AnswerRule, Meaning
from authpool.rotation.quota import Header
from authpool.rotation.selection import json_field


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswer:
    """An answer as far as it has arrived. `header` looks up a header or trailer by its name, in any case.

    `body` is None until it has arrived whole, and stays None where it streams. `tells_limits`: whether any field may
    be about the account's limits.
    """

    status: int
    header: Header = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    tells_limits: bool = True


def rule_meaning(answer: UpstreamAnswer, rules: Sequence[AnswerRule]) -> Meaning | Literal["no rule"] | None:
    """What an answer means by the first rule that fits; None while the body must tell."""
    for rule in rules:
        fits = _fits(rule, answer)
        if fits is None:
            return None
        if fits:
            return rule.means
    return "no rule"


def usual_meaning(answer: UpstreamAnswer) -> Meaning:
    """What an answer means where nobody says otherwise."""
    match answer.status:
        case 401:
            return "bad_token"
        case 429 | 529:
            return "cooldown"
        case 503 if answer.header("retry-after") is not None:
            return "cooldown"
        case 200:
            match answer.header("grpc-status"):  # grpc/doc/statuscodes.md
                case "16":  # UNAUTHENTICATED
                    return "bad_token"
                case "8":  # RESOURCE_EXHAUSTED
                    return "cooldown"
    return "ok"


def _fits(rule: AnswerRule, answer: UpstreamAnswer) -> bool | None:
    """Whether a rule fits; None while only the body can tell."""
    if rule.statuses and answer.status not in rule.statuses:
        return False
    if rule.header is not None:
        value = answer.header(rule.header)
        return value is not None and (rule.values is None or value.strip() in rule.values)
    if not rule.json:
        return True
    if not _is_json(answer.header("content-type") or ""):
        return False
    if answer.body is None:
        return None
    found = json_field(answer.body, rule.json)
    return found is not None and (rule.values is None or found in rule.values)


def _is_json(content_type: str) -> bool:
    """Whether a body is one JSON document (RFC 8259, RFC 6839); not a stream of them, which must not be held back."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json")) and kind not in {"application/stream+json", "application/connect+json"}
