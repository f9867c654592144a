"""A store that can't be written is not the token endpoint's fault, and no reason to refuse who has a live token."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authpool.files.atomic_file import FileOperations
from support.pool_rig import Rig, client, reverse_gateway

pytestmark = pytest.mark.mitmproxy


@pytest.fixture
def disk_is_full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let no file be made any more, or again."""
    create = FileOperations.create

    def full(self: FileOperations, path: Path) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    return lambda is_full: monkeypatch.setattr(FileOperations, "create", full if is_full else create)


async def test_the_client_is_told_whose_fault_it_is(rig: Rig, disk_is_full: Any) -> None:
    """At the first request that wants a new token and at the next, and no token is spent for it."""
    rig.home("alice", "bob", expires_in=-10)
    disk_is_full(True)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(3)]
        told = [message for message in gateway.messages if "Refreshes wait for the store" in message]
        disk_is_full(False)
        posts = rig.posts

    assert [answer.status_code for answer in answers] == [500] * 3
    assert {answer.headers["authpool-error"] for answer in answers} == {"gateway_error"}
    assert all("store can't be written" in answer.json()["detail"] for answer in answers)
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in answers)
    assert posts == 0
    assert len(told) == 1
    assert "No space left on device" in told[0]


async def test_who_has_a_live_token_is_served(rig: Rig, disk_is_full: Any) -> None:
    """Also in its last seconds, in which it is to be refreshed before it serves."""
    rig.home("alice", expires_in=10)
    disk_is_full(True)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(2)]
        disk_is_full(False)

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_an_endpoint_that_is_down_is_told_as_ever(rig: Rig) -> None:
    """It is the endpoint's fault where nothing is wrong with the store."""
    rig.home("alice", expires_in=-10)
    await rig.endpoint.server.stop()
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(2)]

    assert {answer.headers["authpool-error"] for answer in answers} == {"token_endpoint_unavailable"}


async def test_all_is_well_when_there_is_room_again(rig: Rig, disk_is_full: Any) -> None:
    """By itself, as soon as it is tried again."""
    rig.home("alice", expires_in=-10)
    disk_is_full(True)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 500
        disk_is_full(False)
        await gateway.wait_until(lambda: "Refreshes wait for the store no more" in gateway.messages)
        assert (await api.get("/x")).status_code == 200
