"""The gateway's clients as a table for people."""

from authpool.pool.report import timestamp
from authpool.verbs.gateway_clients import ClientRow

HEADER = (
    "CLIENT",
    "STATE",
    "POOLS",
    "HOSTS",
    "EXPIRES",
    "KEYS",
    "LIMITS",
    "LAST USED",
    "REQUESTS",
    "REFUSED",
    "REASON",
)


def client_cells(row: ClientRow) -> tuple[str, ...]:
    """One client's line under HEADER; an empty cell is what has no meaning, or what there is none of."""
    limits = [] if row.max_in_flight is None else [f"{row.max_in_flight} at a time"]
    limits += [] if row.requests_per_second is None else [f"{row.requests_per_second:g} a second"]
    expires, used = ("" if at is None else timestamp(at) for at in (row.expires_at, row.last_used_at))
    scopes = ("any" if names is None else ",".join(names) or "none" for names in (row.pools, row.hosts))
    counts = (str(row.requests), str(row.refused))
    return row.name, row.state, *scopes, expires, str(row.keys), ", ".join(limits), used, *counts, row.reason
