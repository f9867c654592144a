"""Whatever is in authpool.toml is read, or refused as a mistake in it."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from authpool.config import load_config
from authpool.errors import ConfigurationError

WORDS = ["[", "]", "[pools.p]\n", "[gateway]\n", "hosts", "paths", "=", '"', "'", "{", "}", ",", "\n", "1", "-", "nan"]
WORDS += [
    "client_secret",
    "token_url",
    "client_keys",
    "unmatched",
    "true",
    "rotation",
    "\x00",
    "é",
    '"*"',
    '"https://h/"',
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(WORDS), max_size=25).map(lambda words: "".join(words).encode()) | st.binary(max_size=80)
)
@example(b"a=" + b"[" * 100_000)
@example(b"a=" + b"{a=" * 100_000)
@example(b"a=" + b"1" * 10_000)
@example(b"\xff")
def test_any_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """No other exception: a gateway's start, and each reload, hangs on it."""
    path = tmp_path / "authpool.toml"
    path.write_bytes(data)
    path.chmod(0o600)
    with suppress(ConfigurationError):
        load_config(tmp_path, {})


def test_a_number_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    """As any mistake is."""
    (tmp_path / "authpool.toml").write_bytes(b"a=" + b"1" * 10_000)
    with pytest.raises(ConfigurationError, match="too long to read"):
        load_config(tmp_path, {})
