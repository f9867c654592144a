"""The guard around a plugin's rotation: a request is served whatever the plugin does."""

import logging
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import AccountKey
from authpool.rotation.guarded_rotation import QUIET_SECONDS, SLOW_SECONDS, STRIKES, GuardedRotation
from authpool.rotation.quota import Quota
from authpool.rotation.rotation import Rotation, RotationRequest

REQUEST = RotationRequest(method="GET", host="api.example", path="/")
A, B, C = (AccountKey("p", name) for name in "abc")


class Timer:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class First(Rotation):
    """Always the first member that was not tried."""

    def __init__(self) -> None:
        self.members: list[AccountKey] = []

    def add(self, key: AccountKey) -> None:
        self.members.append(key)

    def remove(self, key: AccountKey) -> None:
        self.members.remove(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        return next((key for key in self.members if key not in tried), None)


class Scripted(First):
    """Does what a test says: raise, dawdle, or answer something."""

    def __init__(self, timer: Timer) -> None:
        super().__init__()
        self.script: dict[str, object] = {}
        self.calls: list[str] = []
        self._timer = timer

    def _play(self, name: str) -> object:
        self.calls.append(name)
        what = self.script.get(name)
        if isinstance(what, Exception):
            raise what
        if isinstance(what, float):
            self._timer.now += what
        return what

    def add(self, key: AccountKey) -> None:
        self._play("add")
        super().add(key)

    def remove(self, key: AccountKey) -> None:
        self._play("remove")
        super().remove(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        what = self._play("choose")
        if what == "nobody":
            return None
        return what if isinstance(what, AccountKey) else super().choose(request, tried)

    def started(self, key: AccountKey) -> None:
        self._play("started")

    def observe(self, key: AccountKey, quota: Quota) -> None:
        self._play("observe")


class Rig:
    def __init__(self, *keys: AccountKey) -> None:
        self.timer = Timer()
        self.inner = Scripted(self.timer)
        self.guard = GuardedRotation(self.inner, plugin="mine", pool="p", timer=self.timer)
        for key in keys:
            self.guard.add(key)

    def choose(self, *tried: AccountKey) -> AccountKey | None:
        return self.guard.choose(REQUEST, tried)


def test_a_rotation_that_works_is_only_passed_through(caplog: pytest.LogCaptureFixture) -> None:
    """Its choice is the choice, None when everybody was tried, and nothing is logged."""
    rig = Rig(A, B)
    assert [rig.choose(), rig.choose(A), rig.choose(A, B)] == [A, B, None]
    rig.guard.remove(A)
    assert rig.choose() == B
    assert not caplog.records


@pytest.mark.parametrize("wrong", (RuntimeError("boom access-of-alice"), C, "nobody", "a tried one"), ids=str)
def test_a_choice_that_can_not_be_is_made_by_turns_instead(wrong: object, caplog: pytest.LogCaptureFixture) -> None:
    """A raise, a stranger, nobody although somebody is there, somebody tried: named in the log, and served."""
    rig = Rig(A, B)
    rig.inner.script["choose"] = A if wrong == "a tried one" else wrong
    assert rig.choose(A) == B
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "rotation of plugin mine (pool p)" in record.getMessage()
    assert "boom" not in caplog.text
    assert rig.choose(A, B) is None


def test_three_in_a_row_and_it_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Then it is not called again, the accounts take turns, and one line says so."""
    rig = Rig(A, B)
    rig.inner.script["choose"] = ValueError()
    assert [rig.choose() for _ in range(STRIKES)] == [A, B, A]
    assert "3 times in a row: it is left out, and accounts take turns until the next reload" in caplog.messages[-1]
    calls = len(rig.inner.calls)
    rig.guard.add(C)
    rig.guard.remove(A)
    rig.guard.started(B)
    assert [rig.choose() for _ in range(4)] == [B, C, B, C]
    assert len(rig.inner.calls) == calls
    assert len(caplog.messages) == 2


def test_a_success_in_between_forgives(caplog: pytest.LogCaptureFixture) -> None:
    """Two failures and a success, over and over, is no three in a row; and it is not logged each time."""
    rig = Rig(A, B)
    for _ in range(10):
        rig.inner.script["choose"] = ValueError()
        rig.choose()
        rig.choose()
        del rig.inner.script["choose"]
        assert rig.choose() == A
    assert len(caplog.messages) == 1
    rig.timer.now += QUIET_SECONDS
    rig.inner.script["choose"] = ValueError()
    rig.choose()
    assert len(caplog.messages) == 2


def test_a_slow_choice_counts_and_serves(caplog: pytest.LogCaptureFixture) -> None:
    """The wait is over by then, so its answer is used; the first is noticed, and three in a row are the end."""
    rig = Rig(A, B)
    rig.inner.script["choose"] = SLOW_SECONDS + 0.5
    assert [rig.choose() for _ in range(STRIKES)] == [A] * STRIKES
    assert [rig.choose(), rig.choose()] == [A, B]  # by turns now
    assert "took 1.5 s in `choose`" in caplog.messages[0]
    assert len(caplog.messages) == 2
    assert "left out" in caplog.messages[-1]


@pytest.mark.parametrize("name", ("add", "remove", "started", "observe"))
def test_what_it_is_told_may_fail_too(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong there, the choice stays among those who can serve."""
    rig = Rig(A, B)
    rig.inner.script[name] = ValueError()
    match name:
        case "add":
            rig.guard.add(C)
            assert rig.choose(A, B) == C
        case "remove":
            rig.guard.remove(A)
            assert rig.choose() == B
        case "started":
            rig.guard.started(A)
        case _:
            rig.guard.observe(A, Quota(limit=1, remaining=1, resets_at=1))
    assert f"raised ValueError in {__file__}, line " in caplog.text
    assert f" in `{name}`" in caplog.text


def test_what_a_rotation_does_not_listen_to_is_not_guarded() -> None:
    """The base class's empty method is called directly."""
    inner = First()
    guard = GuardedRotation(inner, plugin="mine", pool="p")
    assert guard.started == inner.started
    assert guard.needs_body is False
    assert "started" not in vars(Rig().guard)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("add", "remove", "choose")),
            st.sampled_from((A, B, C)),
            st.sampled_from((None, A, B, C, "nobody", "raise")),
            st.sets(st.sampled_from((A, B, C))),
        )
    )
)
def test_whatever_a_rotation_does_a_member_that_was_not_tried_is_chosen(
    steps: list[tuple[str, AccountKey, object, set[AccountKey]]],
) -> None:
    """And None only when there is none; through any sequence of joins, leaves, lies and raises."""
    logging.getLogger("authpool.rotation.guarded_rotation").disabled = True
    rig = Rig()
    members: set[AccountKey] = set()
    for step, key, answer, tried in steps:
        rig.inner.script = {} if answer is None else {step: ValueError() if answer == "raise" else answer}
        if step == "add" and key not in members:
            rig.guard.add(key)
            members.add(key)
        elif step == "remove" and key in members:
            rig.guard.remove(key)
            members.discard(key)
        elif step == "choose":
            chosen = rig.guard.choose(REQUEST, tried)
            assert chosen in members - tried if members - tried else chosen is None
    logging.getLogger("authpool.rotation.guarded_rotation").disabled = False
