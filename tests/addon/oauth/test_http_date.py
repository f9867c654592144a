"""The three forms of an HTTP date mean the same moment, whatever zone the machine is in."""

import time
from collections.abc import Iterator

import pytest

from authpool.oauth.http_date import http_date
from authpool.oauth.verdict import Reply, TryLater, judge, retry_after_seconds
from authpool.rotation import quota

AT = 784_111_777.0
FORMS = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994")


@pytest.fixture(params=("UTC", "Asia/Tokyo", "America/Los_Angeles"), autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("text", FORMS)
def test_each_form_is_gmt(text: str) -> None:
    """RFC 9110 §5.6.7; asctime's form names no zone and is GMT all the same."""
    assert http_date(text) == AT


@pytest.mark.parametrize("text", FORMS)
def test_retry_after_waits_as_long_as_it_says(text: str) -> None:
    """Of a token endpoint and of an upstream."""
    assert retry_after_seconds(text, AT - 90) == 90
    assert quota.retry_after({"retry-after": text}.get, AT - 90) == AT
    found = judge(Reply(status=429, body=b"", retry_after=text), now=AT - 90)
    assert isinstance(found, TryLater)
    assert found.retry_after_seconds == 90


def test_what_is_no_date_says_nothing() -> None:
    """Another clock's form, or none at all."""
    assert retry_after_seconds("tomorrow", AT) is None
    assert quota.retry_after({"retry-after": "Sun Nov 6"}.get, AT) is None
