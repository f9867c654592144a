"""The gateway's own answers (RFC 9457): tables."""

import json
from typing import get_args

import pytest

from authpool.pool.pool import State
from authpool.requests.refusals import (
    GATEWAY_ERROR,
    PLAINTEXT_REFUSED,
    POOL_MISCONFIGURED,
    Code,
    Refusal,
    pool_exhausted,
    token_endpoint_unavailable,
)

STATUS = {
    "pool_exhausted": 503,
    "token_endpoint_unavailable": 502,
    "pool_misconfigured": 502,
    "client_key_required": 401,
    "client_limited": 429,
    "client_not_allowed": 403,
    "unmatched_refused": 403,
    "plaintext_refused": 403,
    "request_refused": 400,
    "method_refused": 405,
    "gateway_error": 500,
}


@pytest.mark.parametrize("code", get_args(Code.__value__))
def test_every_code_is_a_problem_document_with_its_status(code: Code) -> None:
    """type, title, status and detail in the body, the code in Authpool-Error."""
    refusal = Refusal(code=code, detail="why")
    document = json.loads(refusal.body())

    assert refusal.status == document["status"] == STATUS[code]
    assert set(document) == {"type", "title", "status", "detail"}
    assert document["type"].endswith(code)
    assert refusal.headers()["Content-Type"] == "application/problem+json"
    assert refusal.headers()["Authpool-Error"] == code


def test_an_exhausted_pool_counts_who_is_held_back_and_says_what_helps() -> None:
    """The detail is for somebody who cannot see the gateway."""
    counts = {State.DISABLED: 2, State.PAUSED: 1, State.COOLING: 3}
    detail = pool_exhausted(counts, 12.2).detail

    assert "2 disabled, 1 paused, 3 cooling" in detail
    assert "Re-adding" in detail
    assert "resume" in detail


def test_an_empty_pool_says_so_and_that_adding_helps() -> None:
    """The first request of a new gateway."""
    assert "empty" in pool_exhausted({}, None).detail
    assert "authpool add" in pool_exhausted({}, None).detail


@pytest.mark.parametrize(("wait", "header"), ((None, None), (0.0, "1"), (-3.0, "1"), (0.2, "1"), (12.2, "13")))
def test_retry_after_is_whole_seconds_and_at_least_one(wait: float | None, header: str | None) -> None:
    """Rounded up: a client that comes back early is refused again."""
    assert pool_exhausted({State.COOLING: 1}, wait).headers().get("Retry-After") == header
    assert token_endpoint_unavailable(wait).headers().get("Retry-After") == header


@pytest.mark.parametrize("refusal", (GATEWAY_ERROR, PLAINTEXT_REFUSED, POOL_MISCONFIGURED))
def test_an_answer_is_not_to_be_cached(refusal: Refusal) -> None:
    """It says how the pool stands at this moment."""
    assert refusal.headers()["Cache-Control"] == "no-store"


def test_only_a_missing_key_challenges_the_client() -> None:
    """RFC 9110 §11.6.1: a 401 says how to authenticate."""
    assert "WWW-Authenticate" in Refusal(code="client_key_required", detail="").headers()
    assert "WWW-Authenticate" not in GATEWAY_ERROR.headers()


def test_at_connect_a_proxy_asks_for_the_key() -> None:
    """407 and Proxy-Authenticate, which clients of proxies wait for; what else a client is refused by is the same."""
    asked = Refusal(code="client_key_required", detail="", at_connect=True)
    assert (asked.status, json.loads(asked.body())["status"]) == (407, 407)
    assert asked.headers()["Proxy-Authenticate"] == 'Basic realm="authpool"'
    assert "WWW-Authenticate" not in asked.headers()
    assert Refusal(code="client_not_allowed", detail="", at_connect=True).status == 403
