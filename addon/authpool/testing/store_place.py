"""Where a store under test lives, and what may happen to it; what the parts of its conformance have in common."""

from dataclasses import replace
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, Token
from authpool.store import Store

ALICE = AccountKey.of("p", "alice")
BOB = AccountKey.of("p", "bob")
SECONDS = 10.0


def made_account(name: str = "alice", token: str = "first") -> Account:
    """An account of pool `p` with an access token, what that was given for, and a key that authpool does not know."""
    account = Account(pool="p", name=name, token=Token(access_token=token), extra={"label": "work"})
    return account.with_replaced("spent", 1_700_000_000)


def counted(current: Account | None) -> Account | None:
    """Add one to a counter in the record, the way any read-change-write would."""
    if current is None:
        return None
    return replace(current, extra={**current.extra, "count": current.extra.get("count", 0) + 1})


class StorePlace:
    """Override `open`; and what breaks a record, takes the store away and cuts its connections."""

    shared = True
    """Whether a process of its own that opens the place finds the same store there."""

    @staticmethod
    def open(place: Path) -> Store:
        """Open the store that lives at `place`, a folder of its own (mode 0700)."""
        raise NotImplementedError("override `open`")

    async def break_record(self, place: Path, key: AccountKey) -> bool:
        """Make a record that can't be read; False where that is not possible."""
        del place, key
        return False

    async def take_away(self, place: Path) -> bool:
        """Make the store unavailable to everybody, until `bring_back`; False where that is not possible."""
        del place
        return False

    async def bring_back(self, place: Path) -> None:
        """Undo `take_away`."""

    async def cut(self, place: Path) -> bool:
        """End every connection to the store, which can be made anew at once; False where there are none."""
        del place
        return False

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        folder = tmp_path / "place"
        folder.mkdir(mode=0o700)
        return folder

    @pytest.fixture
    def store(self, place: Path) -> Store:
        return self.open(place)
