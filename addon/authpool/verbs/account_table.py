"""Accounts as a table for people."""

from authpool.accounts.printable import printable
from authpool.pool.report import timestamp
from authpool.verbs.account_rows import AccountRow

HEADER = ("POOL", "NAME", "STATE", "SINCE", "EXPIRES", "SERVED", "REASON")


def account_cells(row: AccountRow) -> tuple[str, ...]:
    """One account's line under HEADER; an empty cell is what nobody knows, or what has no meaning."""
    reason = row.reason if row.until is None else f"{row.reason} (until {timestamp(row.until)})"
    since, expires_at = (timestamp(at) if at is not None else "" for at in (row.since, row.expires_at))
    served = "" if row.served is None else str(row.served)
    return row.pool, printable(row.name), str(row.state), since, expires_at, served, printable(reason)
