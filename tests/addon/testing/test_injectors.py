"""The conformance kit for injectors finds what is wrong with one."""

from collections.abc import Callable
from typing import Any

import pytest

from authpool.accounts.account import Account
from authpool.requests.injector import Injected, Injector, OutgoingRequest
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.testing.injectors import InjectorConformance


class Good(Injector):
    """Puts the token on."""

    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        return Injected(headers={"X-Key": account.token.access_token})


class NeedsTheBody(Good):
    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        return Injected(headers={"X-Key": str(request.body.sha256) + request.target.encode().decode("ascii")})


class Remembers(Good):
    def __init__(self) -> None:
        self.first: Account | None = None

    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        self.first = self.first or account
        return super().inject(request, self.first)


class Shows(Good):
    def __init__(self) -> None:
        self.token = ""

    def inject(self, request: OutgoingRequest, account: Account) -> Injected:
        self.token = account.token.access_token or ""
        return super().inject(request, account)

    def __repr__(self) -> str:
        return self.token


class Deaf(Good):
    def again(self, request: OutgoingRequest, answer: UpstreamAnswer, account: Account) -> bool:
        return len(answer.header("date") or 0) > 0  # type: ignore[arg-type]


KIT = InjectorConformance()
WRONG: tuple[tuple[type[Injector], Callable[[Any], None]], ...] = (
    (NeedsTheBody, lambda injector: KIT.test_it_puts_a_credential_on_or_says_why_not(injector, "bytes")),
    (Remembers, KIT.test_accounts_do_not_get_in_each_others_way),
    (Shows, KIT.test_no_token_in_its_repr),
    (Deaf, lambda injector: KIT.test_it_hears_any_answer(injector, 401)),
)


@pytest.mark.parametrize(("kind", "check"), WRONG, ids=[kind.__name__ for kind, _ in WRONG])
def test_what_is_wrong_is_found(kind: type[Injector], check: Callable[[Any], None]) -> None:
    """And a good one passes the same check."""
    check(Good())
    with pytest.raises((AssertionError, TypeError)):
        check(kind())
