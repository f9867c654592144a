"""Where accounts are kept, as the rest of authpool sees it: read, hold, change, follow.

The folder (`authpool.store.folder`) is the store of today. Everything that reads or writes an account goes through
this interface, so that a hold may be a kernel's lock or a claim on a database's row. Gateway keys, which tell the
gateway's own clients apart, are kept here as well; the clients of `read_client` and the like are OAuth clients.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from authpool.accounts.account import Account, AccountKey, BrokenAccount
from authpool.accounts.standing import Standing
from authpool.clients.client import ClientEntry, GatewayClient
from authpool.clients.usage import Usage
from authpool.config.config_table import ConfigTable
from authpool.store.audit import Entry
from authpool.store.client_record import ClientRecord
from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from authpool.store.sealing.sealed_value import Place
from authpool.store.unread import UnreadRecord

type Record = Account | BrokenAccount
type Change = Callable[[Account | None], Account | None]
"""From the account as it is stored now (None: there is none) to what it shall be (None: remove it).

Returning the very object it was given writes nothing. It may be called more than once, must not change anything, and is
called in the thread of the event loop that asked: it may look at whatever belongs there.
"""

type StandingChange = Callable[[Standing], Standing]
"""Likewise, for what holds an account back for a while."""

type ClientChange = Callable[[ClientRecord | None], ClientRecord]
"""Likewise, for what is known of an OAuth client; it is never removed."""

type GatewayClientChange = Callable[[GatewayClient | None], GatewayClient | None]
"""Likewise, for a client of the gateway: from how it is stored now to how it shall be (None: forget it)."""


class Hold(Protocol):
    """One account, held against every other process and task that would present its refresh token.

    A folder's hold ends with its process. A database's is a claim that ends by itself, at `deadline`: no refresh token
    may be presented that could be under way then, and what is asked at that moment is given up.
    """

    @property
    def key(self) -> AccountKey: ...

    @property
    def fence(self) -> str:
        """Names this hold among all there ever were."""

    @property
    def deadline(self) -> float | None:
        """When it ends by itself, in seconds of the monotonic clock (`Clock.monotonic`); None: never."""

    @property
    def lost(self) -> bool:
        """Whether it is over, so far as this process knows: somebody else may hold the account."""

    async def read(self) -> Account:
        """As `Store.read`. Raises HoldLostError once it is lost."""

    async def update(self, change: Change, *, replace_broken: bool = False) -> Account | None:
        """As `Store.update`. Raises HoldLostError once it is lost; then nothing was changed."""

    async def keep_granted(self, change: Change) -> Account | None:
        """Write what a token endpoint granted, also when the hold is lost: a pair that arrived is nowhere else.

        Compare-and-set: `change` refuses (raises) where the credential that was presented is not the stored one any
        more. Returns what is stored afterwards.
        """


class Store(Protocol):
    """Accounts that outlive the process and are shared with others.

    Every method may raise StoreUnavailableError.
    """

    async def open(self) -> None:
        """Begin, before anything else is asked. Where that fails, others ask again later, and find out."""

    async def aclose(self) -> None:
        """End what `open`, `wait_for_changes` and writing began. Reading and writing may go on."""

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

    async def read(self, key: AccountKey) -> Account:
        """Read one account as it is stored now. Raises UnknownAccountError, BrokenAccountError."""

    def hold(self, key: AccountKey) -> AbstractAsyncContextManager[Hold]:
        """Hold the account, to refresh it or to put another in its place.

        Waits without blocking the event loop, and has no time limit of its own. The account need not exist yet.
        """

    async def update(self, key: AccountKey, change: Change, *, replace_broken: bool = False) -> Account | None:
        """Read, change and write one account durably, as one step that no other `update` comes between.

        Compare-and-set: when somebody's editor changed the record meanwhile, `change` is called again on what is
        there then, so nobody's edit is undone. Returns what is stored afterwards. Short: it does not wait for
        a hold, and whoever needs one takes it first, and updates through it.

        Raises BrokenAccountError when the record can't be read; with `replace_broken` the change starts from None
        instead, and the unreadable record is kept aside.
        """

    async def update_standing(self, key: AccountKey, change: StandingChange) -> Account | None:
        """Read, change and write what holds the account back for a while, apart from its credential.

        Never waits for a hold. Returns the account as it is afterwards; None: there is none. Raises BrokenAccountError.
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

    async def gateway_clients(self) -> Mapping[str, ClientEntry]:
        """Read every client of the gateway, by its folded name (`str.casefold`), as anybody has written it.

        Cheap, when nothing changed: asked several times a second, for a change has to hold within one. What can't be
        read is answered as broken; a client that is missing, or broken, for a moment while it is being written is
        answered as it was.
        """

    async def update_gateway_client(
        self, client: str, change: GatewayClientChange, *, replace_broken: bool = False
    ) -> GatewayClient | None:
        """Read, change and write one client of the gateway durably, as one step, in whichever process.

        Compare-and-set, as `update`. Returns what is stored afterwards. Raises BrokenClientError when the record can't
        be read; with `replace_broken` the change starts from None instead.
        """

    async def count_usage(self, counts: Mapping[str, Usage]) -> None:
        """Add to the usage of clients of the gateway. Of a client that is unknown by now nothing is kept.

        It touches no client's record, and so brings none back.
        """

    async def gateway_usage(self) -> Mapping[str, Usage]:
        """How much each client of the gateway has used it, by its folded name."""

    def append(self, entry: Entry) -> None:
        """Add to the audit trail, in the order of the calls. Neither waits nor raises: what fails is logged, once.

        A store that can't write at once does so soon, and before `aclose` returns.
        """

    async def entries(self, newest: int | None = None) -> list[Entry]:
        """Every entry of the audit trail that is kept, or the `newest` so many; oldest first."""

    async def entries_since(self, position: object) -> tuple[list[Entry], object]:
        """What was appended to the audit trail, by whichever process, and the next position; from the start with None.

        An entry may be told twice, and is never missed. A position is the store's own affair, and of this process.
        """

    async def request_reload(self) -> int:
        """Ask every gateway on the store to reload; answers the number of the request, higher than any before."""

    async def reload_request(self) -> int:
        """The number of the last request to reload, 0 when there was none. Cheap: asked every half second."""


@runtime_checkable
class ListsPools(Protocol):
    """A store that can tell which pools it has accounts of, configured or not."""

    async def pools(self) -> Collection[str]:
        """Every pool that there may be accounts of. Raises StoreUnavailableError."""


@runtime_checkable
class NamesAccounts(Protocol):
    """A store that can tell what its accounts are called without reading them."""

    async def names(self, pool: str) -> Collection[str]:
        """The names of a pool's accounts, also of those that can't be read. Raises StoreUnavailableError."""


type Rewritten = Literal["written", "as it was", "unreadable"]


class SealedPart(NamedTuple):
    """Something of a store that may hold secrets: an account's record, or one that was set aside."""

    pool: str
    name: str


@runtime_checkable
class SealsSecrets(Protocol):
    """A store that can keep its secrets sealed (`authpool.store.sealing`); nothing of it shows in what is read.

    A record whose key is not at hand is told as `SealedAccount`, reading or changing it raises SealedError, and it is
    replaced by nobody. Whoever writes asks the keys of that moment, under the lock of what is written.
    """

    def seal_with(self, operator: OperatorKey | None, *, no_key: str = "") -> str:
        """Seal what is written from now on, by a key that is wrapped by this one. Blocks for a moment.

        Answers why what is sealed can't be opened, or nothing can be sealed; empty where all is well. Where it is not,
        and another key was in force, that stays. Without a key (`no_key` says why) nothing is written as long as the
        store's secrets are sealed. Raises StoreUnavailableError.
        """

    @property
    def opener(self) -> str:
        """The fingerprint of the operator's key that is in force; empty where there is none."""

    async def locked(self) -> str:
        """As `seal_with` answers, now."""

    async def change_keys(self, change: Callable[[KeyRing], KeyRing], openers: Sequence[OperatorKey] = ()) -> KeyRing:
        """Change the data keys, as one step that no other process comes between; answers what they are then.

        From then on `openers`, where there are any, open them, and no other operator's key. Returning the very ring it
        was given changes nothing else. Raises SealedError, also where other operator's keys would be left behind.
        """

    async def parts(self) -> Sequence[SealedPart]:
        """Everything that may hold secrets, of every pool that there ever was."""

    async def rewrite(self, part: SealedPart) -> Rewritten:
        """Write a part as it would be written now, sealed or not, if it is not so already. Raises SealedError."""

    async def finish_rewriting(self) -> None:
        """Make durable what `rewrite` wrote, and remove what processes that died left behind, in plain perhaps."""

    async def seal_text(self, place: Place, text: str) -> str | None:
        """Seal something that is kept elsewhere; None where nothing is sealed. Raises SealedError."""

    async def open_text(self, place: Place, value: str) -> str:
        """Open what `seal_text` gave for that place. Raises SealedError, BrokenAccountError."""


@runtime_checkable
class SetsAside(Protocol):
    """A store that keeps an unreadable record beside the one that replaces it."""

    async def clear_set_aside(self, key: AccountKey) -> None:
        """Remove what was set aside of this account. Raises StoreUnavailableError."""


@runtime_checkable
class SearchesUnread(Protocol):
    """A store that tells what it finds of an account's credentials in records that can't be read as one."""

    async def unread(self, key: AccountKey) -> Sequence[UnreadRecord]:
        """What is found in the account's record, where that can't be read, and in all that was set aside of it.

        Raises StoreUnavailableError.
        """


@runtime_checkable
class ForcesReloads(Protocol):
    """A store through which gateways can be asked for a reload that drops pools which are in use."""

    async def force_reload(self) -> int:
        """As `request_reload`, by force."""

    async def forced_reload(self) -> int:
        """The number of the last request by force, 0 when there was none."""


type StoreFactory = Callable[[Path, ConfigTable], Store]
"""From the home, and what `store = { name = "...", ... }` says beside the name, to a store. Raises ConfigurationError
for options it does not like (`options.only("key", ...)` refuses unknown ones)."""
