"""The verb `history`: what the audit trail tells of all accounts, or of one."""

from collections.abc import Sequence

from authpool.accounts.account import AccountKey
from authpool.accounts.printable import printable
from authpool.errors import RefusedError
from authpool.pool.report import timestamp
from authpool.store.audit import CLIENT, Entry

HEADER = ("TIME", "EVENT", "ACCOUNT", "PROCESS", "FINGERPRINT", "GENERATION", "REASON")


def history(entries: Sequence[Entry], address: str | None = None) -> list[Entry]:
    """Those of POOL/NAME, where one is given; an account that was removed has a history too. Raises RefusedError."""
    if address is not None and address.startswith(CLIENT):
        return [entry for entry in entries if entry.account.casefold() == address.casefold()]
    wanted = None if address is None else _key(address)
    return [entry for entry in entries if wanted is None or AccountKey.of(*_parts(entry.account)) == wanted]


def history_cells(entry: Entry) -> tuple[str, ...]:
    """One entry's line under HEADER; an empty cell is what has no meaning."""
    process = f"{entry.process.kind} {entry.process.pid}"
    secret = entry.fingerprint or ""
    told = (entry.event, entry.account, process, secret, str(entry.generation), entry.reason)
    return (timestamp(entry.time), *map(printable, told))


def _parts(address: str) -> tuple[str, str]:
    pool, _, name = address.partition("/")
    return pool, name


def _key(address: str) -> AccountKey:
    try:
        return AccountKey.parse(address)
    except ValueError:
        raise RefusedError("write the account as POOL/NAME; `authpool accounts` lists them") from None
