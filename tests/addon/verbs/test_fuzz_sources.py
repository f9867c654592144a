"""Whatever is given to `add` as a credential is read or refused, and never repeated."""

import json

from hypothesis import given
from hypothesis import strategies as st

from authpool.errors import RefusedError
from authpool.verbs.sources import parse_credential

SECRET = "rt-9f8e7d6c5b4a39281706f5e4d3c2b1a0"
KEYS = (
    "token",
    "refresh_token",
    "access_token",
    "email",
    "disabled",
    "client_id",
    "client_secret",
    "expires_in",
    "sealed",
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6).map(json.dumps)
TEXTS = DOCUMENTS | st.text(max_size=60) | st.text(max_size=5).map(lambda text: SECRET + text)


@given(TEXTS)
def test_any_source_is_read_or_refused(text: str) -> None:
    """JSON of any form, and what is none."""
    try:
        told = repr(parse_credential(text, "the source"))
    except RefusedError as error:
        told = f"{error}{error.__cause__}"
    assert SECRET not in told
