"""What a rotation is: the rule by which a pool picks the account for a request."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from authpool.accounts.account import AccountKey
from authpool.config import PoolConfig
from authpool.config.config_table import ConfigTable
from authpool.rotation.quota import Quota


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationRequest:
    """What a rotation may know about the request it picks for.

    `client` is the name of the client whose gateway key was shown, else the client's IP address.

    `header` answers the value of a header by its name, in any case, or None; the client's credentials are not among
    them. `body` answers the request's body, or None: only a rotation that `needs_body` may count on it, and a body
    that streams is never there. Its content coding is undone, and of a long one the first MiB is there.
    """

    method: str
    host: str
    path: str
    client: str = ""
    header: Callable[[str], str | None] = field(default=lambda name: None, repr=False)
    body: Callable[[], bytes | None] = field(default=lambda: None, repr=False)


class Rotation(ABC):
    """The accounts of one pool that can serve now, and which of them is next.

    The pool calls `add` when an account becomes able to serve and `remove` when it stops, so a rotation never looks
    at a state and never scans. All calls come from one thread. None of them may wait.
    """

    needs_body: bool = False
    """Whether `choose` looks at the request's body; the pool then chooses once the body has arrived.

    A class may say so, or a single rotation, where it depends on its options.
    """

    @abstractmethod
    def add(self, key: AccountKey) -> None:
        """This account can serve from now on. It was not a member before."""

    @abstractmethod
    def remove(self, key: AccountKey) -> None:
        """This account can't serve any more. It was a member before."""

    @abstractmethod
    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        """Pick a member that is not among `tried` (few: what this request was tried on); None when there is none."""

    def started(self, key: AccountKey) -> None:  # noqa: B027 - most rotations need not know
        """A request was given to the account: chosen here, or, as it may be, in another way. It is in flight now.

        As many `finished` follow; the account may have left and come back in between, and after a reload a new
        rotation is told of those still in flight right after `add`.
        """

    def finished(self, key: AccountKey) -> None:  # noqa: B027 - likewise
        """A request that was in flight on the account is over, or went on to another account."""

    def observe(self, key: AccountKey, quota: Quota) -> None:  # noqa: B027 - likewise
        """An upstream's answer told what is left of the account's quota; the account need not be a member."""


type RotationFactory = Callable[[PoolConfig], Rotation]


def rotation_options(pool: PoolConfig, *known: str) -> ConfigTable:
    """What `rotation = { name = "...", ... }` says beside the name. Raises ConfigurationError for an unknown key."""
    return ConfigTable(pool.rotation_options, ("pools", pool.name, "rotation"), known)
