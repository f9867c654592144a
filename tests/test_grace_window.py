"""A provider with a grace window (django-oauth-toolkit): an answer that got lost may still be had, and is."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from authpool.accounts.account import AccountKey, fingerprint
from authpool.gateway.service import Service
from authpool.refresh.outcome import Outcome, Ready
from support.django_provider import DjangoProvider
from support.home import make_home, read_account, token_table
from support.tcp_shim import LOSSY, Fate, TcpShim


@pytest.fixture(scope="module")
def graceful() -> Iterator[DjangoProvider]:
    """It starts in seconds: one for all tests here, so use `new_account` names."""
    provider = DjangoProvider(grace_seconds=60)
    provider.start()
    yield provider
    provider.stop()


async def present(provider: DjangoProvider, refresh_token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    auth = (provider.client_id, provider.client_secret)
    async with httpx.AsyncClient(trust_env=False, auth=auth) as client:
        return await client.post(provider.token_url, data=form)


async def me(provider: DjangoProvider, access_token: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(provider.userinfo_url, headers={"Authorization": f"Bearer {access_token}"})


async def test_the_provider_rotates_repeats_a_pair_and_punishes_what_is_older(
    graceful: DjangoProvider, new_account: Callable[[], str]
) -> None:
    """What the tests below and the chaos rely on; an access token ends with the refresh token it came with."""
    first = await graceful.grant(new_account())
    assert (await me(graceful, first["access_token"])).status_code == 200
    second = (await present(graceful, first["refresh_token"])).json()
    again = (await present(graceful, first["refresh_token"])).json()
    assert (again["access_token"], again["refresh_token"]) == (second["access_token"], second["refresh_token"])
    refused = await me(graceful, first["access_token"])
    assert (refused.status_code, "invalid_token" in refused.headers["WWW-Authenticate"]) == (401, True)

    third = (await present(graceful, second["refresh_token"])).json()
    assert (await present(graceful, first["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await present(graceful, third["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.fixture
async def refresh(
    graceful: DjangoProvider, tmp_path: Path, new_account: Callable[[], str]
) -> AsyncIterator[Callable[[Fate], Any]]:
    """Refresh one account through a shim that does this to the first answer; tells what came of it."""
    name = new_account()
    services: list[Service] = []

    async def refresh(fate: Fate) -> tuple[Outcome, list[Any], dict[str, Any]]:
        async with TcpShim(graceful.host, graceful.port, plan=[fate]) as shim:
            home = make_home(
                tmp_path,
                pools={"team": graceful.pool() | {"token_url": f"http://127.0.0.1:{shim.port}/token"}},
                accounts={f"team/{name}": {"token": token_table(await graceful.grant(name))}},
            )
            services.append(service := Service(home, {}))
            account = await service.store.read(AccountKey.of("team", name))
            outcome = await service.refresher.refresh(account)
        return outcome, shim.exchanges, read_account(home, f"team/{name}")

    yield refresh
    for service in services:
        await service.stop()


@pytest.mark.parametrize("fate", sorted(LOSSY))
async def test_an_answer_that_got_lost_is_asked_for_again_and_the_account_lives(
    fate: Fate, graceful: DjangoProvider, refresh: Callable[[Fate], Any]
) -> None:
    """The same token twice, the pair that was lost the first time, and a grant that goes on."""
    outcome, exchanges, document = await refresh(fate)
    assert isinstance(outcome, Ready)
    assert [exchange.spent for exchange in exchanges] == [True, True]
    assert len({exchange.token for exchange in exchanges}) == 1
    assert not document.get("disabled")
    assert "pending_refresh" not in document
    assert fingerprint(document["token"]["refresh_token"]) != exchanges[0].token
    assert (await me(graceful, document["token"]["access_token"])).status_code == 200
    assert (await present(graceful, document["token"]["refresh_token"])).status_code == 200
