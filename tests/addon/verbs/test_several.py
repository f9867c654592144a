"""Verbs on several accounts: each has its own end, whatever becomes of the others."""

import asyncio
from pathlib import Path

import pytest

from authpool.errors import RefusedError
from authpool.verbs.operations import Operations
from authpool.verbs.several import AT_ONCE, InterruptedVerbError, Outcome, each
from support.answers import JSON
from support.operator import Desk, open_desk

FAILURES = {"b": OSError(28, "No space left on device"), "c": ValueError("a fault"), "d": RefusedError("no")}


async def fails_for_some(address: str) -> str:
    await asyncio.sleep(0)
    if address in FAILURES:
        raise FAILURES[address]
    return f"Done {address}"


async def test_whatever_one_raises_the_others_go_on() -> None:
    """A full disk, or a fault of ours, is the end of one account's verb; each is heard of, in the order given."""
    heard: list[Outcome] = []
    outcomes = await each("abcde", fails_for_some, at_once=2, heard=heard.append)
    assert heard == outcomes
    assert [one.error and one.error.error_code for one in outcomes] == [None, "system", "failed", "refused", None]
    assert [str(one) for one in outcomes] == [
        "Done a",
        "b: No space left on device",
        "c: unexpected error ValueError",
        "d: no",
        "Done e",
    ]


async def test_what_is_cut_off_says_how_to_go_on() -> None:
    """Its notes are kept, it counts as begun, and nothing more is begun."""
    begun: list[str] = []

    async def verb(address: str) -> str:
        begun.append(address)
        if address == "a":
            return "Done a"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(f"The new token of {address} is kept in a file.")
            raise
        return ""

    task = asyncio.create_task(each("abcdef", verb, at_once=2))
    while len(begun) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(InterruptedVerbError, match="3 of 6 accounts were left as they were") as interrupted:
        await task
    assert begun == ["a", "b", "c"]
    assert [str(one) for one in interrupted.value.outcomes] == [
        "Done a",
        "b: interrupted before it was done. The new token of b is kept in a file.",
        "c: interrupted before it was done. The new token of c is kept in a file.",
    ]


async def refresh_all(desk: Desk) -> list[Outcome]:
    addresses = await desk.operations.matching(["google/*"])
    return await each(addresses, lambda one: desk.operations.refresh(one, one_of_several=True))


def issue_many(desk: Desk) -> None:
    for number in range(4 * AT_ONCE):
        name = f"user-{number:02}"
        desk.write(f"google/{name}", token=desk.provider.issue(name))


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    (
        (JSON(401, {"error": "invalid_client"}), "client_rejected", "not asked: the token endpoint rejects the client"),
        (JSON(503, {}), "provider_unavailable", "not asked: no token now (the token endpoint is down)"),
        (JSON(400, {"error": "invalid_grant"}), "client_rejected", "not asked: several accounts of one client"),
    ),
)
async def test_those_that_nobody_need_ask_for_are_spared(tmp_path: Path, answer: JSON, code: str, says: str) -> None:
    """Once the client, or its endpoint, is known to be in trouble: by those that were under way then."""
    async with open_desk(tmp_path) as desk:
        issue_many(desk)
        desk.token_endpoint.script = lambda number, form: answer
        outcomes = await refresh_all(desk)
        assert all(one.error is not None for one in outcomes)
        spared = [one.error for one in outcomes if says in str(one)]
        assert len(spared) >= 2 * AT_ONCE
        assert {error.error_code for error in spared if error is not None} == {code}
        assert len(set(desk.posts)) <= 2 * AT_ONCE
        posts = len(desk.posts)
        with pytest.raises(RefusedError):
            await desk.operations.refresh("google/user-31")
        assert len(desk.posts) > posts, "one alone is asked for whatever is known"


async def test_enabling_all_of_a_pool_is_for_those_that_are_disabled(tmp_path: Path) -> None:
    """That the others are not is no failure; of one alone it is."""
    async with open_desk(tmp_path) as desk:
        for name, disabled in (("alice", True), ("bob", False)):
            desk.write(f"google/{name}", token=desk.provider.issue(name), disabled=disabled)
        addresses = await desk.operations.matching(["google/*"])
        outcomes = await each(addresses, lambda one: desk.operations.enable(one, one_of_several=True))
        assert [str(one) for one in outcomes] == [
            "Enabled google/alice: a refresh succeeded",
            "google/bob is not disabled",
        ]
        assert [one.error for one in outcomes] == [None, None]
        with pytest.raises(RefusedError, match="google/bob is not disabled"):
            await desk.operations.enable("google/bob")


@pytest.mark.parametrize("running", (False, True))
async def test_accounts_of_a_pool_that_is_not_configured(tmp_path: Path, running: bool) -> None:  # noqa: FBT001
    """Are found as the others are: they can be removed all at once."""
    async with open_desk(tmp_path, running=running) as desk:
        desk.write("former/alice", token={"refresh_token": "one"})
        desk.write("former/Bob", token={"refresh_token": "two"})
        operations: Operations = desk.operations
        assert await operations.matching(["former/*"]) == ["former/alice", "former/Bob"]
        with pytest.raises(RefusedError, match="no such pool"):
            await operations.matching(["formr/*"])


async def test_one_account_in_two_spellings_is_one(tmp_path: Path) -> None:
    """As names compare everywhere."""
    async with open_desk(tmp_path) as desk:
        assert await desk.operations.matching(["google/Bob", "google/bob", "keys/bob"]) == ["google/Bob", "keys/bob"]
