"""Removing an account: its grant is revoked, and nothing of it stays."""

from pathlib import Path

import pytest

from authpool.errors import RefusedError
from support.answers import JSON, Reset
from support.exchange import Answer
from support.operator import Desk, open_desk
from support.token_endpoint import Form, ScriptedTokenEndpoint

ALICE = "google/alice@example.com"
COPY = "google/copy"


async def remove(tmp_path: Path, answer: Answer, *, keep_grant: bool = False, copied: bool = False) -> list[Form]:
    """Remove Alice, whose pool has a revocation endpoint that answers so; what it was sent."""
    async with ScriptedTokenEndpoint([answer] * 3) as revocation:
        async with open_desk(tmp_path, revoke_url=revocation.url) as desk:
            write(desk, ALICE)
            if copied:
                write(desk, COPY)
            aside = desk.file_of(ALICE).with_suffix(".broken")
            aside.write_text("refresh_token = 'old'")
            try:
                said = await desk.operations.remove(ALICE, keep_grant=keep_grant)
                assert said == f"Removed {ALICE}{'' if keep_grant else ', and revoked its grant at the provider'}"
            finally:
                assert not desk.file_of(ALICE).exists()
                assert not aside.exists()
        return [post.form for post in revocation.received]


def write(desk: Desk, address: str) -> None:
    desk.write(address, token={"refresh_token": "the-refresh-token"})


async def test_the_grant_is_revoked(tmp_path: Path) -> None:
    """With the refresh token, by the pool's own client."""
    (form,) = await remove(tmp_path, JSON(200, {}))
    assert form["token"] == "the-refresh-token"
    assert form["token_type_hint"] == "refresh_token"


async def test_it_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    """Nobody is asked anything."""
    assert await remove(tmp_path, JSON(200, {}), keep_grant=True) == []


@pytest.mark.parametrize("answer", (JSON(503, {}), JSON(400, {"error": "unsupported_token_type"}), Reset()))
async def test_what_does_not_work_is_said(tmp_path: Path, answer: Answer) -> None:
    """The account is removed all the same, and no secret is in the message."""
    with pytest.raises(RefusedError, match=rf"^Removed {ALICE}, but its grant at the provider lives on: ") as refused:
        await remove(tmp_path, answer)
    assert "the-refresh-token" not in str(refused.value)


async def test_a_login_that_is_shared_is_not_revoked(tmp_path: Path) -> None:
    """That would end the other account, too."""
    with pytest.raises(RefusedError, match=f"{COPY} holds the same credential"):
        await remove(tmp_path, JSON(200, {}), copied=True)
