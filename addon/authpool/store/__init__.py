"""Where accounts are kept, as the rest of authpool sees it: read, lock, change, follow.

The folder (`authpool.store.folder`) is the store of today. Everything that reads or writes an account goes through
this interface, so that a lock may be a file's or a database row's.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from authpool.accounts.account import Account, AccountKey, BrokenAccount
from authpool.config.config_table import ConfigTable
from authpool.store.client_record import ClientRecord

type Record = Account | BrokenAccount
type Change = Callable[[Account | None], Account | None]
"""From the account as it is stored now (None: there is none) to what it shall be (None: remove it).

Returning the very object it was given writes nothing. It may be called more than once, and must be pure.
"""

type ClientChange = Callable[[ClientRecord | None], ClientRecord]
"""Likewise, for what is known of a client; it is never removed."""


class Store(Protocol):
    """Accounts that outlive the process and are shared with others.

    Every method may raise StoreUnavailableError.
    """

    async def load(self, pools: Collection[str]) -> Mapping[AccountKey, Record]:
        """Read every account of these pools; from here on `changes` tells what differs."""

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        """Tell what changed, by anybody's hand, since the last `load` or `changes`; None means gone.

        What this process wrote is told too, by the next call. A removal is told when it is sure that it is one.
        """

    async def wait_for_changes(self) -> None:
        """Return when something may have changed, by anybody's hand, or after an interval of the store's own.

        For one caller, which asks `changes` after it. Raises nothing: what is wrong, `changes` tells.
        """

    async def aclose(self) -> None:
        """End what `wait_for_changes` began. Reading and writing may go on."""

    async def read(self, key: AccountKey) -> Account:
        """Read one account as it is stored now. Raises UnknownAccountError, BrokenAccountError."""

    def lock(self, key: AccountKey) -> AbstractAsyncContextManager[None]:
        """Hold the account against every other process and task that would present its refresh token.

        Waits without blocking the event loop, has no time limit, and ends with the process.
        The account need not exist yet.
        """

    async def update(self, key: AccountKey, change: Change, *, replace_broken: bool = False) -> Account | None:
        """Read, change and write one account durably, as one step that no other `update` comes between.

        Compare-and-set: when somebody's editor changed the record meanwhile, `change` is called again on what is
        there then, so nobody's edit is undone. Returns what is stored afterwards. Short: it does not wait for
        `lock`, and whoever needs that one takes it first.

        Raises BrokenAccountError when the record can't be read; with `replace_broken` the change starts from None
        instead, and the unreadable record is kept aside.
        """

    async def read_client(self, client: str) -> ClientRecord | None:
        """Read what is known of a client, named as `GrantRequest.client` does; None: nothing. Cheap, when it is old.

        A record that can't be read is answered as one with a storm (`broken_record`).
        """

    async def clients(self) -> Mapping[str, ClientRecord]:
        """Read what is known of every client, by its name. Cheap, when nothing changed."""

    async def update_client(self, client: str, change: ClientChange) -> ClientRecord:
        """Read, change and write what is known of a client durably, as one step, in whichever process.

        Returns what is stored afterwards.
        """


@runtime_checkable
class ListsPools(Protocol):
    """A store that can tell which pools it has accounts of, configured or not."""

    async def pools(self) -> Collection[str]:
        """Every pool that there may be accounts of. Raises StoreUnavailableError."""


type StoreFactory = Callable[[Path, ConfigTable], Store]
"""From the home, and what `store = { name = "...", ... }` says beside the name, to a store. Raises ConfigurationError
for options it does not like (`options.only("key", ...)` refuses unknown ones)."""
