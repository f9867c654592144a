"""An injector of a plugin's, watched: what it may put on, and what becomes of a request when it fails."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from authpool.accounts.account import Account, Token
from authpool.errors import InjectionRefusedError
from authpool.requests import guarded_injector
from authpool.requests.guarded_injector import QUIET_SECONDS, STRIKES, GuardedInjector
from authpool.requests.injector import Injected, Injector, OutgoingRequest, RequestBody
from authpool.requests.refusals import GATEWAY_ERROR, Refusal
from authpool.requests.upstream_answer import UpstreamAnswer

ACCOUNT = Account(pool="p", name="alice", token=Token(access_token="the-token"))
REQUEST = OutgoingRequest(
    method="GET", scheme="https", host="api.test", target="/a/b?c=1", headers=(), body=RequestBody(b"")
)
ANSWER = UpstreamAnswer(status=401, header=lambda name: None)
GOOD = Injected(headers={"X-Key": "1"})


class Says(Injector):
    """Answers what a function of its own does."""

    def __init__(self, inject: Callable[[], Any], again: Callable[[], Any] = lambda: False) -> None:
        self._inject, self._again = inject, again

    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        return self._inject()  # type: ignore[no-any-return]

    def again(self, request: OutgoingRequest, answer: UpstreamAnswer, account: Account) -> bool:
        return self._again()  # type: ignore[no-any-return]


def guarded(inject: Callable[[], Any], **more: Any) -> GuardedInjector:
    again = more.pop("again", lambda: False)
    return GuardedInjector(Says(inject, again), plugin="mine", pool="p", **more)


def fails() -> Injected:
    raise RuntimeError("a secret, maybe")


FAILURES: tuple[tuple[Callable[[], Any], str], ...] = (
    (fails, "raised RuntimeError in "),
    (lambda: sys.exit("enough"), "raised SystemExit in "),
    (lambda: None, "answered a NoneType, not an Injected"),
    (Injected, "put on nothing"),
    (lambda: Injected(headers={"X-Key": None}), "put on nothing"),
    (lambda: Injected(headers={"Host": "other.test"}), "put on a header that belongs to the connection"),
    (lambda: Injected(headers={"content-length": "1"}), "put on a header that belongs to the connection"),
    (lambda: Injected(headers={"X Key": "1"}), "put on a header that belongs to the connection, or is none"),
    (lambda: Injected(headers={"X-Key": "1\r\nX-Other: 2"}), "put on a header with a character"),
    (lambda: Injected(headers={"X-Key": "\u20ac"}), "put on a header with a character"),
    (lambda: Injected(headers={"X-Key": 1}), "put on something that is no text"),  # type: ignore[dict-item]
    (lambda: Injected(query={"key": b"1"}), "put on something that is no text"),  # type: ignore[dict-item]
    (lambda: Injected(headers={1: "1"}), "put on something that is no text"),  # type: ignore[dict-item]
    (lambda: Injected(headers={"A": "1"}, secrets=(1,)), "put on something that is no text"),  # type: ignore[arg-type]
    (lambda: Injected(headers=1), "raised AttributeError"),  # type: ignore[arg-type]
)


@pytest.mark.parametrize(("inject", "told"), FAILURES, ids=map(str, range(len(FAILURES))))
def test_what_fails_is_a_refusal_and_named(
    inject: Callable[[], Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the plugin and the pool, and without the text of the exception; never an exception of its own."""
    assert guarded(inject).inject(REQUEST, ACCOUNT) is GATEWAY_ERROR
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"The injector of plugin mine (pool p) {told}")
    assert line.endswith("the request is refused")
    assert "maybe" not in caplog.text


def test_file_and_line_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Of the plugin's own."""
    guarded(fails).inject(REQUEST, ACCOUNT)
    assert f"{__file__}, line " in caplog.text


def test_what_it_refuses_is_told_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    """And is no failure: nothing is logged."""

    def refuses() -> Injected:
        raise InjectionRefusedError("The body is streamed,\nso it can't be signed.")

    refusal = guarded(refuses).inject(REQUEST, ACCOUNT)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.status) == ("request_refused", 400)
    assert refusal.detail == "The body is streamed, so it can't be signed."
    assert caplog.records == []


def test_one_that_goes_on_failing_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Each request is refused; one that works in between is sent."""
    now, broken = [1000.0], [True]
    injector = guarded(lambda: fails() if broken[0] else GOOD, timer=lambda: now[0])
    for _ in range(5):
        assert injector.inject(REQUEST, ACCOUNT) is GATEWAY_ERROR
    broken[0] = False
    assert injector.inject(REQUEST, ACCOUNT) is GOOD
    broken[0], now[0] = True, now[0] + QUIET_SECONDS
    assert injector.inject(REQUEST, ACCOUNT) is GATEWAY_ERROR
    assert len(caplog.records) == 2


def test_a_slow_one_is_heard_until_it_was_slow_too_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then it holds nobody up any more: its requests are refused."""
    monkeypatch.setattr(guarded_injector, "SLOW_SECONDS", -1.0)
    injector = guarded(lambda: GOOD)
    with caplog.at_level(logging.ERROR):
        said = [injector.inject(REQUEST, ACCOUNT) for _ in range(STRIKES + 2)]
    assert said == [GOOD] * STRIKES + [GATEWAY_ERROR] * 2
    assert len(caplog.records) == STRIKES
    assert "it is asked no more" in caplog.text


def test_slowness_now_and_then_is_forgiven() -> None:
    """A busy machine is no reason."""
    times = iter([0.0, 2.0, 10.0, 12.0, 20.0, 20.1, 30.0, 32.0, 40.0, 42.0, 50.0, 50.1])
    injector = guarded(lambda: GOOD, timer=lambda: next(times))
    assert [injector.inject(REQUEST, ACCOUNT) for _ in range(6)] == [GOOD] * 6


@pytest.mark.parametrize("says", (True, False, None, 1, "yes"))
def test_again_is_true_or_it_is_not(says: object) -> None:
    """A coroutine that nobody awaits would be true as well."""
    assert guarded(lambda: GOOD, again=lambda: says).again(REQUEST, ANSWER, ACCOUNT) is (says is True)


def test_an_again_that_fails_is_a_no(caplog: pytest.LogCaptureFixture) -> None:
    """The answer is what it is."""
    assert guarded(lambda: GOOD, again=fails).again(REQUEST, ANSWER, ACCOUNT) is False
    assert "in `again`" in caplog.text


def test_what_a_request_shows() -> None:
    """Its parts, and what RFC 9449 calls `htu`; the hash of a body that nobody has is none."""
    assert (REQUEST.path, REQUEST.query, REQUEST.url) == ("/a/b", "c=1", "https://api.test/a/b")
    assert RequestBody(None).sha256 is None
    assert RequestBody(b"").sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert "secret" not in repr(Injected(headers={"A": "secret"}, query={"b": "secret"}, secrets=("secret",)))
