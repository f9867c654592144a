"""Whatever stands in a list: it is read or told, and never repeated in a message."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from authpool.verbs.import_formats.entry import ImportEntry, Unreadable
from authpool.verbs.import_formats.sealed_text import open_text
from authpool.verbs.import_formats.texts import text_entries
from authpool.verbs.import_formats.times import unix_seconds

SECRET = "the-secret-that-is-in-every-list"
keys = st.sampled_from(
    (
        *("refresh_token", "access_token", "token", "tokens", "id_token", "email", "name", "disabled", "disabled_at"),
        *("disabled_reason", "proxy_disabled", "proxy_disabled_at", "created_at", "expires_at", "expired", "client_id"),
        *(
            "client_secret",
            "accounts",
            "items",
            "sealed",
            "sealed_for",
            "secret",
            "type",
            "paused",
            "provider",
            "order",
        ),
        *("api_key", "custom_label", "last_refresh", "exchanged_from", "requires_reauth", "subject"),
    )
)
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
)


def check(text: str) -> None:
    for found in text_entries(text, "the list"):
        assert isinstance(found, ImportEntry | Unreadable)
        assert SECRET not in (found.problem if isinstance(found, Unreadable) else "")
        assert SECRET not in repr(found) or isinstance(found, ImportEntry)


@given(values)
@example({"refresh_token": f"{SECRET} with a blank"})
@example({"disabled": [], "refresh_token": "t"})
@example({"paused": {}, "provider": [], "refresh_token": "t"})
def test_any_document_is_read_or_told(document: object) -> None:
    """Of whatever types its members are."""
    check(json.dumps(document))


@given(st.text(max_size=200) | st.lists(st.text(max_size=20), max_size=5).map("\n".join))
@example('"\n"')
@example("\x00")
@example("a,b\r\x0bc,d")
@example("refresh_token,refresh_token\n1,2")
def test_any_text_is_read_or_told(text: str) -> None:
    """Also what is half of something."""
    check(text)
    assert open_text(text, lambda: "") == text


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40))
def test_any_time_is_read_or_left_out(value: object) -> None:
    """And what is read fits an account's file."""
    read = unix_seconds(value)
    assert read is None or 0 < read < 1 << 40
