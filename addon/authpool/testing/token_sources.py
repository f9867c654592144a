"""What every token source must hold to.

Subclass it in a test module of yours, and say how to make one:

    class TestMySource(TokenSourceConformance):
        @pytest.fixture
        def source(self) -> TokenSource:
            return MySource(...)

The source must answer for accounts of any name, or override `accounts`. Needs pytest-asyncio.
"""

import asyncio
import time
from collections.abc import Sequence

import pytest

from authpool.accounts.account import Account, Token
from authpool.errors import TokenSourceError
from authpool.refresh.source_tokens import fetch_from
from authpool.refresh.token_source import Fetched, TokenSource


class TokenSourceConformance:
    """Run by pytest for each subclass. Override `source`; the others as it suits the source."""

    accounts: Sequence[str] = ("alice", "bob@example.com", "carol smith", "dave/eu-1")
    """Accounts that have a token."""
    cancel_after_seconds: float = 0.01

    @pytest.fixture
    def source(self) -> TokenSource:
        raise NotImplementedError("override the fixture `source`")

    @pytest.fixture
    def failing_source(self) -> TokenSource:
        """One that has no token for `alice`, by whatever fault."""
        pytest.skip("the fixture `failing_source` is not overridden")

    @pytest.mark.asyncio
    async def test_a_token_that_a_gateway_takes(self, source: TokenSource) -> None:
        """A plain token that is not over: what the gateway's own checks let through."""
        for name in self.accounts:
            granted = await fetch_from(source, _account(name), now=time.time())
            assert granted.access_token

    @pytest.mark.asyncio
    async def test_many_accounts_at_once(self, source: TokenSource) -> None:
        """Fetches for several accounts don't get in each other's way: each gets what it would get alone."""
        alone = {name: await source.fetch(_account(name)) for name in self.accounts}
        names = list(self.accounts) * 3
        together = await asyncio.gather(*(source.fetch(_account(name)) for name in names))
        for name, fetched in zip(names, together, strict=True):
            assert isinstance(fetched, Fetched)
            assert (fetched.expires_at is None) == (alone[name].expires_at is None)
            assert fetched.token_type == alone[name].token_type

    @pytest.mark.asyncio
    async def test_it_does_not_hold_up_the_event_loop(self, source: TokenSource) -> None:
        """While it fetches, the gateway goes on: no step of it takes longer than a second."""
        longest = 0.0
        ended = asyncio.Event()

        async def watch() -> None:
            nonlocal longest
            while not ended.is_set():
                began = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - began)

        watching = asyncio.create_task(watch())
        await source.fetch(_account(self.accounts[0]))
        ended.set()
        await watching
        assert longest < 1

    @pytest.mark.asyncio
    async def test_a_caller_that_leaves_breaks_nothing(self, source: TokenSource) -> None:
        """Cancelled at any moment it ends with that, soon, and the next fetch works."""
        for pauses in range(5):
            fetching = asyncio.create_task(source.fetch(_account(self.accounts[0])))
            await asyncio.sleep(pauses * self.cancel_after_seconds)
            fetching.cancel()
            done, _ = await asyncio.wait([fetching], timeout=5)
            assert done, "a cancelled fetch must end"
            if not fetching.cancelled():
                assert isinstance(fetching.result(), Fetched), "it was over already, or must not swallow it"
        assert (await source.fetch(_account(self.accounts[0]))).access_token

    @pytest.mark.asyncio
    async def test_no_token_in_its_repr(self, source: TokenSource) -> None:
        """What is shown of the source, and of what it fetched, tells no token."""
        fetched = await source.fetch(_account(self.accounts[0]))
        assert fetched.access_token not in repr(source)
        assert fetched.access_token not in repr(fetched)

    @pytest.mark.asyncio
    async def test_it_fails_in_words_for_the_operator(self, failing_source: TokenSource) -> None:
        """With an error that says what to do about the account, on one line, without what the account holds."""
        account = _account("alice")
        with pytest.raises(TokenSourceError) as caught:
            await failing_source.fetch(account)
        assert caught.value.detail.strip()
        assert "\n" not in caught.value.detail
        told = repr(caught.value) + repr(caught.value.__cause__)
        assert str(account.token.access_token) not in told


def _account(name: str) -> Account:
    return Account(pool="conformance", name=name, token=Token(access_token="the-token-before"))
