"""Whatever a client's file says is read, or refused as a mistake in it; and what was read can be used."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authpool.clients.allowance import Allowance
from authpool.clients.document import client_from_document
from authpool.files.atomic_file import FileOperations
from authpool.pool.report import timestamp
from authpool.store.folder.gateway_client_folder import USAGE, GatewayClientFolder

KEYS = ("version", "created_at", "expires_at", "removed_at", "max_in_flight", "requests_per_second", "pools", "keys")
NUMBERS = ("0", "-1", "1e-320", "1e-9", "1e400", "inf", "nan", "9" * 18, "9" * 400, f"0x{'f' * 5000}")
VALUES = st.sampled_from((*NUMBERS, "true", "'x'", "[]", "[1]", "{}", "[{}]", "[{id='a',sha256='b'}]"))


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
@example({"requests_per_second": "1e-320"})
@example({"requests_per_second": "9" * 400})
@example({"expires_at": "9" * 400})
def test_any_file_is_used_or_refused(lines: dict[str, str]) -> None:
    """Limits that can't be reckoned with are no limits to serve under."""
    text = "\n".join(("name = 'ci'", *(f"{key} = {value}" for key, value in lines.items())))
    try:
        client = client_from_document(tomllib.loads(text))
    except ValueError:
        return
    allowance = Allowance(0.0)
    for now in (0.0, 0.0, 1.0):
        allowance.take(client, now)
    assert client.expires_at is None or timestamp(client.expires_at)


@pytest.mark.parametrize(
    "text", ("[ci]\nrequests = inf\nrefused = 0\nlast_used_at = 0\n", "ci = " + "[" * 5000, "ci = 1")
)
def test_counts_that_can_not_be_read_begin_anew(tmp_path: Path, text: str) -> None:
    """They are nobody's permission."""
    folder = GatewayClientFolder(tmp_path, FileOperations())
    (tmp_path / "clients").mkdir(mode=0o700)
    path = tmp_path / "clients" / USAGE
    path.touch(mode=0o600)
    path.write_text(text)
    assert folder._read_usage() == {}
