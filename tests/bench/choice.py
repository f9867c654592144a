"""What one choice costs among 10, 1,000 and 10,000 ready accounts; the goal is under 5 us, and flat."""

import timeit
from collections.abc import Callable
from statistics import median

from authpool.account import Account, Token
from authpool.clock import SystemClock
from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import PoolConfig
from authpool.plugins import Plugins
from authpool.pool import Pool
from authpool.rotation import RotationRequest

SIZES = (10, 1_000, 10_000)
CHOICES = 20_000
REPEATS = 7


def chooser(accounts: int) -> Callable[[], object]:
    """Build a pool of so many accounts, by the door that the gateway uses, and answer one choice of it."""
    clock = SystemClock()
    config = PoolConfig(name="bench", hosts=(HostPattern.parse("127.0.0.1"),))
    expires_at = int(clock.time()) + 12 * 3600
    records = (
        Account(
            pool="bench",
            name=f"account-{number:05}",
            token=Token(access_token="a", refresh_token=f"r{number}", expires_at=expires_at),
        )
        for number in range(accounts)
    )
    pool = Pool(config, lambda: Plugins(None).rotation(config), clock, records)
    request = RotationRequest(method="GET", host="127.0.0.1", path="/")
    return lambda: pool.choose(request)


def microseconds(choose: Callable[[], object]) -> float:
    """Time one choice, as the median of several series."""
    choose()
    return median(timeit.repeat(choose, number=CHOICES, repeat=REPEATS)) / CHOICES * 1e6


def main() -> None:
    print("| accounts | one choice |\n|---:|---:|")
    for size in SIZES:
        print(f"| {size:,} | {microseconds(chooser(size)):.2f} us |")
    print()


if __name__ == "__main__":
    main()
