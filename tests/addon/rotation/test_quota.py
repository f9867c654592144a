"""Reading what an upstream says of its limits."""

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from authpool.rotation.quota import Quota, quota_of, retry_after

NOW = 1_700_000_000.0


def header_of(**fields: str):  # noqa: ANN201 - a lookup as messages have it
    known = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda name: known.get(name.lower())


@pytest.mark.parametrize(
    ("fields", "expected"),
    (
        ({}, None),
        ({"ratelimit": '"default";r=50;t=30'}, Quota(remaining=50, resets_at=NOW + 30)),
        ({"ratelimit": '"burst";r=9;t=1, "day";r=3;t=600'}, Quota(remaining=3, resets_at=NOW + 600)),
        (
            {"ratelimit": '"burst";r=9;t=1, "day";r=30;t=600', "ratelimit_policy": '"burst";q=10;w=1, "day";q=1000'},
            Quota(remaining=30, limit=1000, resets_at=NOW + 600),
        ),
        (
            {"x_ratelimit_remaining": "-1", "x_ratelimit_reset": "2023-11-14T22:14:20Z"},
            Quota(remaining=0, resets_at=NOW + 60),
        ),
        ({"ratelimit": "limit=100, remaining=5, reset=30"}, Quota(remaining=5, limit=100, resets_at=NOW + 30)),
        (
            {"ratelimit_limit": "100, 100;w=60", "ratelimit_remaining": "7", "ratelimit_reset": "12"},
            Quota(remaining=7, limit=100, resets_at=NOW + 12),
        ),
        ({"x_ratelimit_remaining": "0"}, Quota(remaining=0)),
        (
            {"x_ratelimit_limit": "60", "x_ratelimit_remaining": "58", "x_ratelimit_reset": "1700000600"},
            Quota(remaining=58, limit=60, resets_at=NOW + 600),
        ),
        (
            {"x_rate_limit_remaining": "1", "x_rate_limit_reset": "1700000600000"},
            Quota(remaining=1, resets_at=NOW + 600),
        ),
        (
            {"x_ratelimit_remaining_requests": "4", "x_ratelimit_reset_requests": "1m30s"},
            Quota(remaining=4, resets_at=NOW + 90),
        ),
        (
            {"x_ratelimit_remaining": "4", "x_ratelimit_reset": formatdate(NOW + 60, usegmt=True)},
            Quota(remaining=4, resets_at=NOW + 60),
        ),
        ({"x_ratelimit_remaining": "4", "x_ratelimit_reset": "soon"}, Quota(remaining=4)),
        ({"x_ratelimit_remaining": "4", "x_ratelimit_reset": "1s" * 30_000}, Quota(remaining=4)),
        ({"x_ratelimit_remaining": "many"}, None),
        ({"ratelimit": "nonsense"}, None),
        ({"x_ratelimit_remaining": "4", "x_ratelimit_reset": "99999999999999"}, Quota(remaining=4)),
    ),
)
def test_every_dialect_of_rate_limit_fields_is_read(fields: dict[str, str], expected: Quota | None) -> None:
    """The IETF's field in its old and new form, three fields, seconds, times, milliseconds, spans, dates, nonsense."""
    assert quota_of(header_of(**fields), NOW) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        (None, None),
        ("", None),
        ("7", NOW + 7),
        (" 7 ", NOW + 7),
        ("0", NOW),
        (formatdate(NOW + 90, usegmt=True), NOW + 90),
        (formatdate(NOW - 90, usegmt=True), NOW),
        ("-5", None),
        ("soon", None),
        ("999999999", NOW + 31 * 86400),
    ),
)
def test_retry_after_is_read_in_seconds_and_as_a_date(text: str | None, expected: float | None) -> None:
    """Never in the past, never more than a month away, nothing where it is not understood."""
    assert retry_after(lambda name: text if name == "retry-after" else None, NOW) == expected


@pytest.fixture
def _far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ+5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_from_greenwich")
@pytest.mark.parametrize("text", ("Tue Nov 14 22:14:50 2023", "Tue, 14 Nov 2023 22:14:50", formatdate(NOW + 90)))
def test_a_date_without_a_zone_is_gmt(text: str) -> None:
    """Wherever the gateway runs (RFC 9110 §5.6.7, asctime's form)."""
    assert retry_after(lambda name: text, NOW) == NOW + 90
    fields = {"x_ratelimit_remaining": "4", "x_ratelimit_reset": text}
    assert quota_of(header_of(**fields), NOW) == Quota(remaining=4, resets_at=NOW + 90)


@pytest.mark.parametrize(
    ("quota", "share"),
    (
        (Quota(remaining=5, limit=10), 0.5),
        (Quota(remaining=0, limit=10), 0.0),
        (Quota(remaining=20, limit=10), 1.0),
        (Quota(remaining=3), 1.0),
        (Quota(remaining=0), 0.0),
    ),
)
def test_the_share_that_is_left(quota: Quota, share: float) -> None:
    """Of the whole where it is known; all or nothing where it is not."""
    assert quota.share == share
