"""A line for each request: what is in it, and that nothing a client sends can make it look like another."""

import json
import logging
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authpool.requests.access_log import AccessLog, json_line, text_line
from authpool.requests.observer import RequestEnd

END = RequestEnd(
    at=1_769_162_400.0625,
    client="192.0.2.7",
    address="192.0.2.7",
    method="GET",
    host="api.example.com",
    path="/v1/models",
    pool="google",
    account="alice@example.com",
    attempts=2,
    status=200,
    waited_seconds=0.2514,
)


def test_the_text_form() -> None:
    """Date, level, client and account first, for eyes; the rest by name, for grep."""
    assert text_line(END, "INFO") == (
        "2026-01-23T10:00:00.062Z INFO 192.0.2.7 google/alice@example.com attempts=2 status=200 waited=0.251 "
        "outcome=answered GET api.example.com/v1/models"
    )


def test_the_text_form_of_a_request_that_nobody_served() -> None:
    """The pool alone where there is no account, a dash where there is no pool and no answer."""
    refused = replace(END, account="", attempts=0, status=503, waited_seconds=0.0, outcome="pool_exhausted")
    assert " google attempts=0 status=503 waited=0.000 outcome=pool_exhausted " in text_line(refused, "WARNING")
    broken_off = replace(END, pool="", account="", attempts=0, status=None, outcome="error", client="")
    assert " INFO - - attempts=0 status=- waited=0.251 outcome=error " in text_line(broken_off, "INFO")


def test_a_client_of_the_gateway_is_named() -> None:
    """With the address that it came from beside it."""
    end = replace(END, client="ci")
    assert text_line(end, "INFO").split()[2] == "ci"
    assert "outcome=answered address=192.0.2.7 GET " in text_line(end, "INFO")
    assert json.loads(json_line(end, "INFO"))["client"] == "ci"


def test_the_json_form() -> None:
    """One object; what is not known is null."""
    assert json.loads(json_line(END, "INFO")) == {
        "date": "2026-01-23T10:00:00.062Z",
        "level": "INFO",
        "client": "192.0.2.7",
        "address": "192.0.2.7",
        "pool": "google",
        "account": "alice@example.com",
        "attempts": 2,
        "status": 200,
        "waited_seconds": 0.251,
        "outcome": "answered",
        "method": "GET",
        "host": "api.example.com",
        "path": "/v1/models",
    }
    nobody = json.loads(json_line(replace(END, pool="", account="", client="", status=None), "INFO"))
    assert [nobody[key] for key in ("pool", "account", "client", "status")] == [None] * 4


_CHARACTERS = "aé\u4e2d\U0001f600/=\"'\\ %\t\r\n\0\x1b\x7f\x85\x9b\u2028\u2029\u202e\ufeff\udc80"
NASTY = st.text(st.sampled_from(_CHARACTERS), max_size=12)
"""Letters of all kinds, and what ends lines, moves cursors, turns the reading direction or is no character at all."""


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NASTY, NASTY, NASTY, NASTY)
def test_no_client_writes_a_line_of_its_own(method: str, host: str, path: str, account: str) -> None:
    """Line ends, control characters and whatever else a terminal minds are escaped, in either form."""
    end = replace(END, method=method, host=host, path=path, account=account)
    for line in (text_line(end, "INFO"), json_line(end, "INFO")):
        assert re.fullmatch(r"[\x20-\x7e]+", line)
    assert json.loads(json_line(end, "INFO"))["account"] == (account or None)


def test_a_forged_field_stays_inside_quotation_marks() -> None:
    """A path with blanks can't claim another outcome."""
    forged = text_line(replace(END, path='/x status=500 "'), "INFO")
    assert forged.endswith(r'GET "api.example.com/x status=500 \""')
    assert len(text_line(replace(END, path="/" + "x" * 100_000), "INFO")) < 1000


@pytest.mark.parametrize(
    ("outcome", "level"),
    (("answered", "INFO"), ("error", "INFO"), ("health", "INFO"), ("pool_exhausted", "WARNING")),
)
def test_a_refusal_of_the_gateways_own_is_a_warning(outcome: str, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """The line's own level and the record's are the same."""
    caplog.set_level(logging.DEBUG)
    log = AccessLog()
    log.observe(replace(END, outcome=outcome))
    assert caplog.records == []
    log.form = "text"
    log.observe(replace(END, outcome=outcome))
    (record,) = caplog.records
    assert (record.levelname, record.getMessage().split()[1]) == (level, level)
