"""The whole story with real parts: an account dies at a certified provider, and comes back."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support.gateway import Mitmdump
from support.home import make_home, read_account, token_table
from support.provider import OidcProvider

pytestmark = [pytest.mark.mitmproxy, pytest.mark.node]

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")


async def who(client: httpx.AsyncClient, url: str) -> str:
    """Ask the provider's own protected resource through the gateway whose token it was given."""
    response = await client.get(f"{url}/me")
    assert response.status_code == 200, response.text
    subject: str = response.json()["sub"]
    return subject


async def authpool(home: Path, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
    """Run the real command line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", "--home", str(home), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=Path(__file__).parents[3] / "addon",
    )
    output, _ = await process.communicate(stdin.encode() if stdin is not None else b"")
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize("rotation", ("rotating", "plain"))
async def test_an_account_dies_and_comes_back(
    rotation: str, request: pytest.FixtureRequest, tmp_path: Path, confdir: Path, new_account: Callable[[], str]
) -> None:
    """Revoked at the provider: no client notices, the verdict outlives a restart, a re-add revives it at once."""
    provider: OidcProvider = request.getfixturevalue("provider" if rotation == "rotating" else "plain_provider")
    alice, bob = new_account(), new_account()
    home = make_home(
        tmp_path,
        pools={"team": provider.pool()},
        accounts={f"team/{name}": {"token": token_table(await provider.grant(name))} for name in (alice, bob)},
    )
    gateway = Mitmdump("-s", SCRIPT, "--mode", f"reverse:{provider.issuer}", home=home, confdir=confdir)
    async with gateway, httpx.AsyncClient(trust_env=False, timeout=20) as client:
        assert {await who(client, gateway.url) for _ in range(4)} == {alice, bob}

        await provider.revoke(alice)
        assert {await who(client, gateway.url) for _ in range(6)} == {bob}
        await gateway.wait_for(f"Disabling account team/{alice} due to invalid_grant")
        assert {await who(client, gateway.url) for _ in range(6)} == {bob}
        dead = read_account(home, f"team/{alice}")
        assert dead["disabled"] is True
        assert dead["disabled_reason"].startswith("invalid_grant")
        assert abs(dead["disabled_at"] - time.time()) < 60
        assert (
            f"Disabling account team/{alice} due to invalid_grant: refresh token likely revoked or expired"
            in gateway.text
        )
        assert f"Token refresh failed (team/{alice}): invalid_grant, trying next account" in gateway.text

        await gateway.stop()
        gateway.output.clear()
        await gateway.start()
        await gateway.wait_for(f"Skipping disabled account team/{alice} (invalid_grant")
        await gateway.wait_for("Pool team reloaded: 1 ready, 1 disabled")
        assert {await who(client, gateway.url) for _ in range(4)} == {bob}

        fresh = await provider.grant(alice)
        status, output = await authpool(home, "add", "team", "-", alice, stdin=fresh["refresh_token"])
        assert status == 0, output
        await gateway.wait_for(f"Account team/{alice} re-enabled: new refresh token")
        assert {await who(client, gateway.url) for _ in range(4)} == {alice, bob}
        assert read_account(home, f"team/{alice}").get("disabled", False) is False


async def test_the_same_dead_refresh_token_does_not_revive_an_account(
    provider: OidcProvider, tmp_path: Path, new_account: Callable[[], str]
) -> None:
    """Adding again what is dead is refused, and the account stays disabled."""
    alice = new_account()
    grant = await provider.grant(alice)
    disabled = {"disabled": True, "disabled_at": 1_700_000_000, "disabled_reason": "invalid_grant: revoked"}
    home = make_home(
        tmp_path,
        pools={"team": provider.pool()},
        accounts={f"team/{alice}": {"token": token_table(grant), **disabled}},
    )
    await provider.revoke(alice)
    status, output = await authpool(home, "add", "team", "-", alice, stdin=grant["refresh_token"])
    assert status == 1
    assert "invalid_grant" in output
    assert grant["refresh_token"] not in output
    assert read_account(home, f"team/{alice}")["disabled"] is True
