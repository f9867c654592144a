"""What a reload would lose, where authpool.toml was emptied or cut off: no request may go out as if it had no pool."""

from collections import Counter
from collections.abc import Collection

from authpool.config import CONFIG_NAME, Config, GatewayConfig
from authpool.errors import ConfigurationError
from authpool.gateway.unconfigured_accounts import UnconfiguredAccounts

_REMEDY = (
    "Put it back; or, if that is meant (a pool under a new name counts as dropped, move its accounts first), say so: "
    "authpool reload --force"
)


async def refuse_lost(before: Config, after: Config, unconfigured: UnconfiguredAccounts) -> None:
    """Refuse a configuration that a save which was cut off may have left.

    That is: without any pool, without one that has accounts, or without the gateway's own table where that asks for
    keys. Raises ConfigurationError or StoreUnavailableError.
    """
    dropped = sorted(before.pools.keys() - after.pools.keys())
    if dropped and not after.pools:
        raise _lost("pools", f"every pool would be dropped ({', '.join(dropped)}).")
    held = await _accounts(dropped, unconfigured)
    for pool in dropped:
        if held[pool]:
            accounts = "an account" if held[pool] == 1 else f"{held[pool]} accounts"
            raise _lost(f"pools.{pool}", f"is gone, and the pool still has {accounts}.")
    if before.gateway.client_keys == "required" and after.gateway == GatewayConfig():
        raise _lost("gateway", "is gone, and with it the demand for gateway keys.")


async def _accounts(pools: Collection[str], unconfigured: UnconfiguredAccounts) -> Counter[str]:
    return Counter(key.pool for key in await unconfigured.of(pools)) if pools else Counter()


def _lost(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{CONFIG_NAME}: {key}", problem, f"{_REMEDY}.")
