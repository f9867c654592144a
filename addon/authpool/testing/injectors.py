"""What every injector must hold to.

Subclass it in a test module of yours, and say how to make one:

    class TestMyInjector(InjectorConformance):
        @pytest.fixture
        def injector(self) -> Injector:
            return MyInjector(...)

Override `access_tokens` where the accounts' tokens have a form of their own.
"""

import time
from collections.abc import Sequence

import pytest

from authpool.accounts.account import Account, Token
from authpool.requests.guarded_injector import GuardedInjector
from authpool.requests.injector import Injected, Injector, OutgoingRequest, RequestBody
from authpool.requests.refusals import Refusal
from authpool.requests.upstream_answer import UpstreamAnswer

ANSWERS = (100, 200, 204, 302, 400, 401, 403, 404, 429, 500, 503)
"""Statuses of answers that it hears."""
VALUES = ("", "0", "x" * 5000, "\xff\x80", '"', "Thu, 01 Jan 99999 00:00:00 GMT", "use_dpop_nonce")
"""What any header of such an answer may say."""


def _request(
    method: str = "GET",
    target: str = "/",
    headers: tuple[tuple[str, str], ...] = (("accept", "*/*"),),
    body: bytes | None = b"",
) -> OutgoingRequest:
    return OutgoingRequest(
        method=method, scheme="https", host="api.test", target=target, headers=headers, body=RequestBody(body)
    )


REQUESTS = {
    "plain": _request(),
    "with a body": _request("POST", "/a/b?c=1", (("content-type", "application/json"),), b'{"a": 1}'),
    "odd": _request("PATCH", "//a/../%2f%zz?&=&a&a=%C3%A9+b", (("x-a", " 1  2 "), ("x-a", "\xff"), ("x-a", ""))),
    "bytes": _request("GET", "/\xe1\x88\xb4?\xe1\x88\xb4=\xff"),
    "all of it": _request("OPTIONS", "*"),
    "large": _request("PUT", "/large", (), bytes(1024 * 1024)),
    "streamed": _request("PUT", "/streamed", (), None),
}
"""What may come: after the checks of the gateway, which refuses line ends and what names another host."""


class InjectorConformance:
    """Run by pytest for each subclass. Override `injector`; the others as it suits the injector."""

    access_tokens: Sequence[str] = ("the-token-of-alice", "the-token-of-bob")
    """Those of two accounts."""

    @pytest.fixture
    def injector(self) -> Injector:
        raise NotImplementedError("override the fixture `injector`")

    @pytest.mark.parametrize("kind", REQUESTS)
    def test_it_puts_a_credential_on_or_says_why_not(self, injector: Injector, kind: str) -> None:
        """Whatever the request is like: a credential that can go out, or a refusal in words for the client."""
        said = self._guarded(injector).inject(REQUESTS[kind], self._account(0))
        assert isinstance(said, Injected) or said.code == "request_refused", "it failed; the log says how"
        if isinstance(said, Refusal):
            assert said.detail.strip()

    def test_it_puts_one_on_the_plainest_request(self, injector: Injector) -> None:
        """A GET without a body can always have one."""
        assert isinstance(self._guarded(injector).inject(REQUESTS["plain"], self._account(0)), Injected)

    def test_accounts_do_not_get_in_each_others_way(self, injector: Injector) -> None:
        """What is put on for one account has nothing of another one that came before."""
        guarded = self._guarded(injector)
        secrets = []
        for number in (0, 1, 0, 1):
            said = guarded.inject(REQUESTS["plain"], self._account(number))
            assert isinstance(said, Injected)
            put_on = [value for value in (*said.headers.values(), *said.query.values()) if value]
            secrets.append(set(put_on if said.secrets is None else said.secrets))
        assert not secrets[0] & secrets[1], "two accounts send the same secret"
        assert not secrets[2] & secrets[1], "an account sends a secret of the one before it"

    def test_no_token_in_its_repr(self, injector: Injector) -> None:
        """Nor in that of what it puts on."""
        said = self._guarded(injector).inject(REQUESTS["plain"], self._account(0))
        assert self.access_tokens[0] not in repr(injector) + repr(said)

    def test_it_does_not_hold_up_the_event_loop(self, injector: Injector) -> None:
        """No request, a MiB large, takes it a second."""
        began = time.monotonic()
        self._guarded(injector).inject(REQUESTS["large"], self._account(0))
        assert time.monotonic() - began < 1

    @pytest.mark.parametrize("status", ANSWERS)
    def test_it_hears_any_answer(self, injector: Injector, status: int) -> None:
        """Of which nothing is certain; it has an opinion or none, and does not fail."""
        for value in (None, *VALUES):
            for body in (None, b"", b"{", b"\xff<Code>"):
                answer = UpstreamAnswer(status=status, header=lambda name, value=value: value, body=body)  # type: ignore[misc]
                assert injector.again(REQUESTS["plain"], answer, self._account(0)) in {True, False}
                said = injector.meaning(answer)
                assert said in {None, "wait", "ok", "bad_token", "cooldown", "forbidden"}

    @staticmethod
    def _guarded(injector: Injector) -> GuardedInjector:
        return GuardedInjector(injector, plugin="conformance", pool="conformance")

    def _account(self, number: int) -> Account:
        token = Token(access_token=self.access_tokens[number])
        return Account(pool="conformance", name=("alice", "bob")[number], token=token)
