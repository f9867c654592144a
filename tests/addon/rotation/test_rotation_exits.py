"""A plugin that calls `sys.exit` on a request's way ends neither the gateway nor the request."""

import sys
from collections.abc import Collection

import pytest

from authpool.accounts.account import AccountKey
from authpool.config import PoolConfig
from authpool.requests.classifier import AskedPlugin
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.rotation.guarded_rotation import GuardedRotation
from authpool.rotation.rotation import Rotation, RotationRequest

KEY = AccountKey.parse("p/alice")


class Exits(Rotation):
    def add(self, key: AccountKey) -> None:
        """It knows nobody."""

    def remove(self, key: AccountKey) -> None:
        sys.exit("enough")

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        sys.exit("enough")


def test_a_rotation_that_exits_is_named_and_the_request_served(caplog: pytest.LogCaptureFixture) -> None:
    guard = GuardedRotation(Exits(), plugin="mine", pool="p")
    guard.add(KEY)
    assert guard.choose(RotationRequest(method="GET", host="api.test", path="/"), ()) == KEY
    guard.remove(KEY)
    assert "raised SystemExit in " in caplog.text


def test_a_classifier_that_exits_is_named(caplog: pytest.LogCaptureFixture) -> None:
    asked = AskedPlugin("mine", lambda pool, answer: sys.exit("enough"))
    assert asked.say(PoolConfig(name="p", hosts=()), UpstreamAnswer(status=200, header=lambda name: None)) is None
    assert "raised SystemExit in " in caplog.text
