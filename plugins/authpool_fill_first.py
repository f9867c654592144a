"""fill_first: the first account in order, and the next one only while it can't serve.

For accounts that are not worth the same: the one that is paid for anyway first, the others when it is cooling.

    rotation = { name = "fill_first", order = ["prepaid@example.com", "spare@example.com"] }

Options: `order`, account names in any case; those it does not name come after them, by name.
Bound: an account serves only requests that all before it could not, or were tried on.
Cost: O(log n) when an account comes or goes, one look to choose.
"""

from collections.abc import Collection, Sequence

from authpool.plugins.api import (
    AccountKey,
    PoolConfig,
    Ranking,
    Rotation,
    RotationFactory,
    RotationRequest,
    hookimpl,
    mistake,
    rotation_options,
)


class FillFirst(Rotation):
    """An account's rank is its place in the order, then its name."""

    def __init__(self, order: Sequence[str] = ()) -> None:
        """`order` holds names in lower case (`AccountKey.name`)."""
        self._place = {name: place for place, name in enumerate(order)}
        self._members: Ranking[tuple[int, str]] = Ranking()

    def add(self, key: AccountKey) -> None:
        self._members.place(key, (self._place.get(key.name, len(self._place)), key.name))

    def remove(self, key: AccountKey) -> None:
        self._members.discard(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        return self._members.first(tried)


def _make(pool: PoolConfig) -> Rotation:
    options = rotation_options(pool, "order")
    order: list[str] = []
    for index, name in enumerate(options.take_strings("order")):
        if not name.strip():
            raise mistake(options.item("order", index), "is empty.", "Fill it in, or remove it.")
        if name.casefold() in order:
            raise mistake(options.item("order", index), "is there twice.", "Remove one of them.")
        order.append(name.casefold())
    return FillFirst(order)


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "fill_first" else None
