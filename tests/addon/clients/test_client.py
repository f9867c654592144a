"""A client's record: its life, its scopes, and the document it is written as."""

import math
from dataclasses import replace
from typing import Any

import pytest
import tomli_w

from authpool.clients.client import KEPT_ENDED, GatewayClient, IssuedKey
from authpool.clients.document import client_from_document, document_from_client
from authpool.clients.key import new_key
from authpool.config.host_pattern import HostPattern

NOW = 1_000.5


def issued(**more: Any) -> IssuedKey:
    key = new_key()
    return IssuedKey(id=key.id, sha256=key.sha256, created_at=1, **more)


FULL = GatewayClient(
    name="ci",
    created_at=1,
    expires_at=5_000,
    for_run=True,
    pools=("google",),
    hosts=(HostPattern.parse("api.example.com"), HostPattern.parse("*.example.org:8443")),
    max_in_flight=2,
    requests_per_second=0.5,
    keys=(issued(), issued(ends_at=900, ending="rotated")),
    extra={"label": "mine", "table": {"a": 1}},
)


@pytest.mark.parametrize("client", (FULL, GatewayClient(name="a"), FULL.with_removed(NOW), replace(FULL, pools=())))
def test_a_client_is_read_as_it_was_written(client: GatewayClient) -> None:
    """With every field; a list without entries is another thing than none. Unknown keys survive."""
    document = document_from_client(client)
    assert client_from_document(document) == client
    assert tomli_w.dumps(document)


BROKEN: dict[str, Any] = {
    "no name": {"name": None},
    "a name with a path": {"name": "../ci"},
    "another version": {"version": 2},
    "a limit that is a text": {"max_in_flight": "2"},
    "a limit that is a truth value": {"max_in_flight": True},
    "a limit of nothing": {"requests_per_second": 0},
    "a rate without end": {"requests_per_second": math.inf},
    "a time that is a text": {"expires_at": "soon"},
    "pools that are no list": {"pools": "google"},
    "hosts that are none": {"hosts": ["https://api.example.com/"]},
    "a host of another kind": {"hosts": [1]},
    "keys that are no tables": {"keys": ["authpool_x"]},
    "a key without its hash": {"keys": [{"id": "a"}]},
    "a key with itself for its hash": {"keys": [{"id": "a", "sha256": "secret" * 11}]},
    "an ending that nobody knows": {"keys": [{"id": "a", "sha256": "0" * 64, "ending": "lost"}]},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_not_understood_makes_the_whole_record_unreadable(change: dict[str, Any]) -> None:
    """A limit must not vanish because it was mistyped; and no value is told."""
    document = {key: value for key, value in {**document_from_client(FULL), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=r"`|hosts") as caught:
        client_from_document(document)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("scopes", "pool", "host", "may"),
    (
        ({}, None, "any.test", True),
        ({"pools": ("google",)}, "google", "any.test", True),
        ({"pools": ("google",)}, "other", "any.test", False),
        ({"pools": ("google",)}, None, "any.test", False),
        ({"hosts": (HostPattern.parse("api.test"),)}, None, "API.test.", True),
        ({"hosts": (HostPattern.parse("api.test"),)}, "google", "other.test", False),
        ({"pools": ("google",), "hosts": (HostPattern.parse("api.test"),)}, "google", "other.test", False),
        ({"pools": ()}, "google", "api.test", False),
        ({"hosts": ()}, None, "api.test", False),
        ({"hosts": (HostPattern.parse("*.test"),)}, None, "bad/host.test", False),
    ),
)
def test_a_client_reaches_its_own_pools_and_hosts_only(
    scopes: dict[str, Any], pool: str | None, host: str, *, may: bool
) -> None:
    """Both, where both are given; no list: any; an empty one: none."""
    assert GatewayClient(name="ci", **scopes).may_reach(pool, "https", host, 443) is may


def test_a_rotation_lets_the_former_key_live_for_the_overlap() -> None:
    """Without one it ends at once, as does every one of a client that leaked. Limits and scopes stay."""
    new = issued()
    rotated = FULL.with_rotated(new, NOW, overlap_seconds=60, leaked=False)
    assert [rotated.ends_at(key) for key in rotated.keys] == [1_061, 900, 5_000]
    assert replace(rotated, keys=FULL.keys) == FULL
    again = rotated.with_rotated(issued(), NOW, overlap_seconds=3_600, leaked=False)
    assert again.ends_at(again.keys[0]) == 1_061  # what ends earlier is not made longer
    for at_once in (
        rotated.with_rotated(issued(), NOW, overlap_seconds=60, leaked=True),
        rotated.with_rotated(issued(), NOW, overlap_seconds=0, leaked=False),
    ):
        assert [at_once.ends_at(key) <= NOW for key in at_once.keys] == [True, True, True, False]


def test_a_client_ends_exactly_when_it_was_to() -> None:
    """Not a moment later; and a removal ends all of it."""
    assert (FULL.expired(4_999.99), FULL.expired(5_000)) == (False, True)
    removed = FULL.with_removed(NOW)
    assert all(removed.ends_at(key) <= NOW for key in removed.keys)


def test_few_of_the_keys_that_ended_are_kept() -> None:
    """The newest, and every one that is good."""
    client = GatewayClient(name="ci", keys=(issued(),))
    for _ in range(KEPT_ENDED + 30):
        client = client.with_rotated(issued(), NOW, overlap_seconds=0, leaked=False)
    assert len([key for key in client.keys if key.ends_at is not None]) <= KEPT_ENDED + 1
    assert client.keys[-1].ends_at is None
