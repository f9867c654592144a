"""The shim of the chaos tests does to an answer what it says, and knows what it did."""

import asyncio

import httpx
import pytest

from authpool.accounts.account import fingerprint
from support.rotating_provider import RotatingProvider
from support.tcp_shim import LOSSY, Fate, TcpShim
from support.token_endpoint import ScriptedTokenEndpoint


async def present(shim: TcpShim, refresh_token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"http://127.0.0.1:{shim.port}/token", data=form)


def shim_of(endpoint: ScriptedTokenEndpoint, fate: Fate) -> TcpShim:
    return TcpShim(endpoint.server.host, endpoint.server.port, rates={fate: 1.0})


@pytest.mark.parametrize("fate", (Fate.PASS, Fate.DELAY))
async def test_an_answer_that_passes_arrives_whole(
    fate: Fate, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint
) -> None:
    """At once or late; the shim saw that the token was spent and lost nothing."""
    refresh_token = str(rotating.issue("alice")["refresh_token"])
    async with shim_of(token_endpoint, fate) as shim:
        answer = await present(shim, refresh_token)
    assert rotating.is_current(answer.json()["refresh_token"])
    assert [(e.token, e.spent) for e in shim.exchanges] == [(fingerprint(refresh_token), True)]
    assert shim.counts["lost"] == 0


@pytest.mark.parametrize("fate", sorted(LOSSY))
async def test_a_lost_answer_was_given(
    fate: Fate, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint
) -> None:
    """The server has rotated, the client has nothing, and the shim knows."""
    refresh_token = str(rotating.issue("alice")["refresh_token"])
    async with shim_of(token_endpoint, fate) as shim:
        with pytest.raises(httpx.TransportError):
            await present(shim, refresh_token)
    assert not rotating.is_current(refresh_token)
    assert [(e.token, e.spent) for e in shim.exchanges] == [(fingerprint(refresh_token), True)]
    assert shim.counts["lost"] == 1


async def test_a_refused_request_never_reaches_the_server(
    rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint
) -> None:
    """The token is as good as before."""
    refresh_token = str(rotating.issue("alice")["refresh_token"])
    async with shim_of(token_endpoint, Fate.REFUSE) as shim:
        with pytest.raises(httpx.TransportError):
            await present(shim, refresh_token)
        assert rotating.is_current(refresh_token)
        shim.be_honest()
        assert (await present(shim, refresh_token)).status_code == 200
    assert token_endpoint.received[0].form["refresh_token"] == refresh_token
    assert len(token_endpoint.received) == 1


async def test_a_server_answers_a_client_that_has_left(
    rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint
) -> None:
    """As when the asking process is killed: the token is spent all the same."""
    refresh_token = str(rotating.issue("alice")["refresh_token"])
    async with shim_of(token_endpoint, Fate.PASS) as shim:
        _, writer = await asyncio.open_connection("127.0.0.1", shim.port)
        form = f"grant_type=refresh_token&refresh_token={refresh_token}"
        head = f"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {len(form)}\r\n"
        writer.write(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}".encode())
        await writer.drain()
        writer.close()
        async with asyncio.timeout(30):
            while not (shim.exchanges and shim.exchanges[0].status):
                await asyncio.sleep(0.01)
    assert shim.exchanges[0].spent
    assert not rotating.is_current(refresh_token)
