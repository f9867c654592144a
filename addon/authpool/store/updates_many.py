"""Writing several accounts at once, for stores that gain by it."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from authpool.accounts.account import Account, AccountKey
from authpool.store import Change

type Changed = Account | Exception | None
"""What became of a change: the account as it is stored afterwards, or what was raised."""


@runtime_checkable
class UpdatesMany(Protocol):
    """A store that writes several accounts in little more time than one."""

    async def update_many(self, pool: str, changes: Mapping[AccountKey, Change]) -> Mapping[AccountKey, Changed]:
        """As `Store.update` with `replace_broken`, for several accounts of a pool; what is raised for one is answered.

        Raises StoreUnavailableError. Whoever calls this holds each of them.
        """
