"""What an upstream's answer means."""

import json
from dataclasses import replace

import pytest

from authpool.config import HostPattern, PoolConfig
from authpool.config.answer_rule import AnswerRule, Meaning
from authpool.requests.classifier import Classifier
from authpool.requests.upstream_answer import UpstreamAnswer, json_field

POOL = PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),))


def meaning_of(told: UpstreamAnswer, rules: tuple[AnswerRule, ...] = ()) -> Meaning | None:
    return Classifier().meaning(replace(POOL, answers=rules), told)


def answer(status: int, body: bytes | None = None, **fields: str) -> UpstreamAnswer:
    known = {name.replace("_", "-"): value for name, value in fields.items()}
    return UpstreamAnswer(status=status, header=known.get, body=body)


@pytest.mark.parametrize(
    ("told", "meaning"),
    (
        (answer(200), "ok"),
        (answer(404), "ok"),
        (answer(500), "ok"),
        (answer(403), "ok"),
        (answer(401), "bad_token"),
        (answer(429), "cooldown"),
        (answer(529), "cooldown"),
        (answer(503), "ok"),
        (answer(503, retry_after="3"), "cooldown"),
        (answer(200, grpc_status="0"), "ok"),
        (answer(200, grpc_status="16"), "bad_token"),
        (answer(200, grpc_status="8"), "cooldown"),
    ),
)
def test_the_usual_meanings(told: UpstreamAnswer, meaning: Meaning) -> None:
    """By status, and by gRPC's own."""
    assert meaning_of(told) == meaning


def test_the_first_rule_that_fits_decides() -> None:
    """Statuses, headers with and without a value; what no rule fits means what it usually does."""
    rules = (
        AnswerRule(means="forbidden", statuses=frozenset({403}), header="x-code", values=frozenset({"plan", "scope"})),
        AnswerRule(means="bad_token", statuses=frozenset({403}), header="x-code"),
        AnswerRule(means="ok", statuses=frozenset({429})),
    )
    assert meaning_of(answer(403, x_code="plan"), rules) == "forbidden"
    assert meaning_of(answer(403, x_code="else"), rules) == "bad_token"
    assert meaning_of(answer(403), rules) == "ok"
    assert meaning_of(answer(429), rules) == "ok"
    assert meaning_of(answer(529), rules) == "cooldown"


def test_a_rule_on_the_body_waits_for_the_body() -> None:
    """Only where its other conditions fit and the answer is JSON."""
    rules = (
        AnswerRule(means="bad_token", statuses=frozenset({200}), json=("error", "code"), values=frozenset({"expired"})),
    )
    kind = "application/json; charset=utf-8"
    assert meaning_of(answer(200, content_type=kind), rules) is None
    assert meaning_of(answer(201, content_type=kind), rules) == "ok"
    assert meaning_of(answer(200, content_type="text/html"), rules) == "ok"
    assert meaning_of(answer(200, b'{"error": {"code": "expired"}}', content_type=kind), rules) == "bad_token"
    assert meaning_of(answer(200, b'{"error": {"code": "other"}}', content_type=kind), rules) == "ok"
    assert meaning_of(answer(200, b'{"error"', content_type=kind), rules) == "ok"


@pytest.mark.parametrize(
    ("kind", "one_document"),
    (
        ("application/json", True),
        ("application/problem+json; charset=utf-8", True),
        ("Text/JSON", True),
        ("application/x-ndjson", False),
        ("application/ndjson", False),
        ("application/jsonl", False),
        ("application/jsonlines", False),
        ("application/json-seq", False),
        ("application/stream+json", False),
    ),
)
def test_a_rule_on_the_body_holds_back_no_stream(kind: str, one_document: bool) -> None:  # noqa: FBT001
    """A stream of documents is no JSON body: waiting for its end would hold it back from the client."""
    rules = (AnswerRule(means="bad_token", json=("error",)),)
    assert meaning_of(answer(200, content_type=kind), rules) == (None if one_document else "ok")


@pytest.mark.parametrize(
    ("document", "path", "value"),
    (
        ({"a": {"b": "x"}}, ("a", "b"), "x"),
        ({"a": [{"b": 7}]}, ("a", "0", "b"), "7"),
        ({"a": True}, ("a",), "true"),
        ({"a": None}, ("a",), None),
        ({"a": {}}, ("a",), None),
        ([1], ("3",), None),
        ("text", ("a",), None),
    ),
)
def test_a_field_of_a_json_body(document: object, path: tuple[str, ...], value: str | None) -> None:
    """Plain values as strings; nothing for what is not there."""
    assert json_field(json.dumps(document).encode(), path) == value
    assert json_field(None, path) is None
    assert json_field(b"[" * 100_000, path) is None
