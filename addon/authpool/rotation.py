"""What a rotation is: the rule by which a pool picks the account for a request."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from authpool.account import AccountKey
from authpool.config import PoolConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationRequest:
    """What a rotation may know about the request it picks for. `client` is the client's IP address."""

    method: str
    host: str
    path: str
    client: str = ""


class Rotation(Protocol):
    """The accounts of one pool that can serve now, and which of them is next.

    The pool calls `add` when an account becomes able to serve and `remove` when it stops, so a rotation never looks
    at a state and never scans. All calls come from one thread. None of them may wait.
    """

    def add(self, key: AccountKey) -> None:
        """This account can serve from now on. It was not a member before."""

    def remove(self, key: AccountKey) -> None:
        """This account can't serve any more. It was a member before."""

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        """Pick a member that is not among `tried` (few: what this request was tried on); None when there is none."""


type RotationFactory = Callable[[PoolConfig], Rotation]
