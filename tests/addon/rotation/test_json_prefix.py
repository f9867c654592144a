"""A field is found in a JSON document of which only the beginning is there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.rotation.json_prefix import field_of_prefix
from authpool.rotation.looked_at_body import LOOKED_AT_BYTES, LookedAtBody
from authpool.rotation.selection import json_field

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), values, max_size=4), st.data())
def test_it_finds_what_all_of_the_document_has_or_nothing(document: dict[str, object], data: st.DataObject) -> None:
    """Wherever it is cut."""
    text = json.dumps(document, ensure_ascii=False, indent=data.draw(st.sampled_from([None, 1]))).encode()
    name = data.draw(st.sampled_from([*document, "other"]))
    cut = data.draw(st.integers(0, len(text)))
    found = field_of_prefix(text[:cut], [name])
    assert found is None or found == document[name]
    assert field_of_prefix(text, [name]) == document.get(name)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    (
        ('{"model": "large", "messages": [{"a', "model", "large"),
        ('{"a": {"b": [1, {"c": "x"}], ', "a.b.1.c", "x"),
        ('{"a": [1, 2', "a.1", None),
        ('{"n": 12', "n", None),
        ('{"a": "x', "a", None),
        ('{"a"', "a", None),
        ('{"a":', "a", None),
        ("[" * 100_000, "0.0", None),
        ('{"a":' * 100_000, "a", None),
        ('{"b": ' + "[" * 100_000, "a", None),
        ('"a"', "a", None),
        ("", "a", None),
        ('{"a": 1, "a": 2, ', "a", 1),
    ),
    ids=lambda value: str(value)[:20],
)
def test_paths(text: str, path: str, value: object) -> None:
    """Members and items; a value that may go on is none."""
    assert field_of_prefix(text.encode(), path.split(".")) == value


def test_a_long_body_has_its_kind() -> None:
    """A request with pictures is as much for its model as one without."""
    body = json.dumps({"model": "large", "data": "x" * (2 * LOOKED_AT_BYTES)}).encode()
    assert json_field(body[:LOOKED_AT_BYTES], ["model"]) == "large"
    assert json_field(body[:LOOKED_AT_BYTES], ["data"]) is None


def test_a_body_is_read_once() -> None:
    """A rotation may ask for it at each choice."""
    asked: list[int] = []

    def read() -> bytes:
        asked.append(1)
        return b"body"

    body = LookedAtBody(read)
    assert asked == []
    assert (body(), body(), asked) == (b"body", b"body", [1])
