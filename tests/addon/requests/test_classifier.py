"""Plugins that say what an upstream's answer means, and those that should not have been asked."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from authpool.config import HostPattern, PoolConfig
from authpool.config.answer_rule import AnswerRule
from authpool.requests import classifier
from authpool.requests.classifier import STRIKES, AnswerClass, AskedPlugin, Classifier
from authpool.requests.upstream_answer import UpstreamAnswer
from support.answers import JSON
from support.pool_rig import Rig, client, reverse_gateway

POOL = PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),))


def answer(status: int = 200, body: bytes | None = None) -> UpstreamAnswer:
    return UpstreamAnswer(status=status, header=lambda name: None, body=body)


def asked(*says: Callable[[PoolConfig, UpstreamAnswer], AnswerClass]) -> Classifier:
    return Classifier([AskedPlugin(f"number{number}", say) for number, say in enumerate(says)])


def test_the_first_plugin_with_something_to_say_decides() -> None:
    """After the pool's own rules, and before the status."""
    judge = asked(lambda pool, answer: None, lambda pool, answer: "forbidden", lambda pool, answer: "cooldown")
    assert judge.meaning(POOL, answer()) == "forbidden"
    assert asked(lambda pool, answer: None).meaning(POOL, answer(429)) == "cooldown"
    ruled = replace(POOL, answers=(AnswerRule(means="ok", statuses=frozenset({429})),))
    assert judge.meaning(ruled, answer(429)) == "ok"
    assert judge.meaning(ruled, answer(200)) == "forbidden"


def test_a_plugin_may_wait_for_the_body() -> None:
    """It is asked again with it; one that goes on waiting has nothing to say."""
    judge = asked(
        lambda pool, answer: "wait" if answer.body is None else "bad_token" if answer.body == b"x" else "wait"
    )
    assert judge.meaning(POOL, answer()) is None
    assert judge.meaning(POOL, answer(body=b"x")) == "bad_token"
    assert judge.meaning(POOL, answer(429, body=b"y")) == "cooldown"


def _raises(pool: PoolConfig, answer: UpstreamAnswer) -> AnswerClass:
    raise RuntimeError("a token, maybe")


@pytest.mark.parametrize("says", (_raises, lambda pool, answer: "dead"), ids=("raises", "means nothing"))
def test_a_plugin_that_fails_is_named_and_left_out_in_the_end(
    says: Callable[[PoolConfig, UpstreamAnswer], AnswerClass], caplog: pytest.LogCaptureFixture
) -> None:
    """Each answer is judged all the same, and the text of its exception is nobody's business."""
    judge = asked(says, lambda pool, answer: "forbidden")
    assert {judge.meaning(POOL, answer()) for _ in range(STRIKES + 3)} == {"forbidden"}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == STRIKES
    assert all(line.startswith("Plugin number0 ") for line in said)
    assert said[-1].endswith("it is asked no more until the next reload")
    assert "maybe" not in caplog.text


def test_a_slow_plugin_is_named_and_heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What it says counts, until it has been slow too often."""
    monkeypatch.setattr(classifier, "SLOW_SECONDS", -1.0)
    judge = asked(lambda pool, answer: "forbidden")
    with caplog.at_level(logging.ERROR):
        said = [judge.meaning(POOL, answer()) for _ in range(STRIKES + 1)]
    assert said == ["forbidden"] * STRIKES + ["ok"]
    assert "in `authpool_classify_answer`" in caplog.text


PLUGIN = """
from authpool import hookimpl

@hookimpl
def authpool_classify_answer(pool, answer):
    if answer.status != 200:
        return None
    if answer.body is None:
        return "wait"
    return "bad_token" if b"session is over" in answer.body else None
"""


@pytest.mark.mitmproxy
async def test_a_plugin_in_the_home_tells_a_bad_token_by_the_body(rig: Rig) -> None:
    """The account is refreshed and the request sent again; the client sees the second answer only."""
    home = rig.home("alice")
    (home / "plugins" / "session.py").write_text(PLUGIN)
    rig.upstream.then(JSON(200, {"error": "session is over"}))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [(await api.get("/x")).text for _ in range(2)]
    assert not any("session is over" in text for text in answers)
    assert rig.posts == 1
    assert len(rig.upstream.received) == 3
