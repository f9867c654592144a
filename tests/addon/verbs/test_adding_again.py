"""Giving `add` the same source once more, after an add of it was refused or cut off: its token was spent already."""

from pathlib import Path

import pytest

from authpool.errors import RefusedError
from authpool.verbs.sources import read_source
from support.operator import Desk, credential, open_desk


def _presented_twice(desk: Desk) -> list[str | None]:
    return [token for token in desk.posts if desk.posts.count(token) > 1]


async def test_the_same_source_with_a_name_after_it_was_refused(tmp_path: Path) -> None:
    """Another subject under the same name, told to say a NAME: the token that was kept is proved, not the spent one."""
    async with open_desk(tmp_path) as desk:
        shared = {"email": "team@example.com"}
        desk.userinfo.claims = {**shared, "sub": "1"}
        await desk.operations.add("google", desk.signed_in("one"))
        desk.userinfo.claims = {**shared, "sub": "2"}
        given = desk.signed_in("two")
        for _ in range(3):
            with pytest.raises(RefusedError, match="another subject"):
                await desk.operations.add("google", given)
        assert len(desk.unclaimed) == 1
        assert await desk.operations.add("google", given, "team-2") == "Added google/team-2"
        assert desk.unclaimed == []
        assert "has this credential already" in await desk.operations.add("google", given, "team-2")
        assert _presented_twice(desk) == []
        assert desk.provider.is_alive("two")
        assert desk.provider.is_current(desk.stored("google/team-2")["token"]["refresh_token"])


async def test_a_source_whose_successor_was_added_is_known(tmp_path: Path) -> None:
    """As the refusal says, what was kept is added; then the source again: its token is spent twice over."""
    async with open_desk(tmp_path) as desk:
        desk.userinfo.claims = {"email": None, "sub": None}
        given = credential(desk.provider.issue("one"))
        with pytest.raises(RefusedError, match="tells no name"):
            await desk.operations.add("google", given)
        [kept] = desk.unclaimed
        assert await desk.operations.add("google", read_source(f"@{kept}", environ={}), "one") == "Added google/one"
        assert "has this credential already" in await desk.operations.add("google", given, "one")
        assert _presented_twice(desk) == []
        assert desk.provider.is_alive("one")
