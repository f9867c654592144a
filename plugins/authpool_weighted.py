"""weighted: every account as often as its weight says.

For accounts whose limits differ: one with weight 3 serves three requests where one with weight 1 serves one.

    rotation = { name = "weighted", weights = { "alice@example.com" = 3, "bob@example.com" = 0.5 }, default = 1 }

Options: `weights`, by account name in any case, and `default`, the weight of all others; 0.001 to 1,000.
Bound: over any number of requests, two accounts with the weights v and w that can serve all the while serve a and b of
them, and a/v and b/w differ by 1/v + 1/w at most; counted from when both came at once, by the larger of 1/v and 1/w. So
long as the first account tried serves: a request that goes on counts for each that it was tried on. An account that
comes back starts where the others are; what it missed is not made up for.
Cost: O(log n), by stride scheduling (Waldspurger and Weihl, 1995) on a heap.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from authpool.plugins.api import (
    AccountKey,
    ConfigTable,
    PoolConfig,
    Ranking,
    Rotation,
    RotationFactory,
    RotationRequest,
    hookimpl,
    mistake,
    rotation_options,
)

_LOWEST, _HIGHEST = 0.001, 1000.0
_STRIDE = 2**64
"""How far an account of weight 1 moves on with each request: whole numbers, for sums of fractions would drift."""


class Weighted(Rotation):
    """Each account has a pass, which moves on by 1/weight with each request; the lowest pass is next."""

    def __init__(self, weights: Mapping[str, float] = MappingProxyType({}), default: float = 1.0) -> None:
        """`weights` go by the account's name in lower case (`AccountKey.name`)."""
        self._strides = {name: round(_STRIDE / weight) for name, weight in weights.items()}
        self._default = round(_STRIDE / default)
        self._members: Ranking[int] = Ranking()
        self._left: dict[AccountKey, int] = {}
        """The pass of those that went: whoever comes back before it is due again is not served early for it."""
        self._present = 0
        """The pass of who served last, before it moved on: nobody's is lower, and who comes starts there."""

    def add(self, key: AccountKey) -> None:
        self._members.place(key, max(self._present, self._left.pop(key, 0)))

    def remove(self, key: AccountKey) -> None:
        self._left[key] = self._members[key]
        self._members.discard(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        key = self._members.first(tried)
        if key is not None:
            turn = self._members[key]
            if not tried:
                self._present = turn
            self._members.place(key, turn + self._strides.get(key.name, self._default))
        return key


def _make(pool: PoolConfig) -> Rotation:
    options = rotation_options(pool, "weights", "default")
    return Weighted(_weights(options), options.take_number("default", 1, _LOWEST, _HIGHEST))


def _weights(options: ConfigTable) -> dict[str, float]:
    given = options.take_table("weights")
    table = ConfigTable(given, options.at("weights"), given)
    weights: dict[str, float] = {}
    for name in given:
        if name.casefold() in weights:
            raise mistake(table.at(name), "is there twice, in another case.", "Remove one of them.")
        weights[name.casefold()] = table.take_number(name, 1, _LOWEST, _HIGHEST)
    return weights


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "weighted" else None
