"""Which account of a pool a request goes to next, those it was tried on left out."""

from authpool.lease import Lease
from authpool.pool import Member, Pool


def choose(pool: Pool, lease: Lease, now: float) -> Member | None:
    """Pick an account; None when nobody can serve.

    A request that was refused meets no account on probation for refused tokens while another can serve: `max_accounts`
    of those one after the other, and its client would get the refusal. Where nobody can, one that is out for what it
    was refused elsewhere may serve this request all the same.
    """
    lease.suspect = None
    doubtful = pool.suspects.keys() if lease.refused else ()
    if doubtful and (member := pool.choose(lease.request, lease.tried.union(doubtful), lease.lane)) is not None:
        return member
    member = pool.choose(lease.request, lease.tried, lease.lane)
    if member is None:
        member = pool.suspects.choose(lease.request, lease.tried, lease.lane, now)
        lease.suspect = None if member is None else member.key
    return member
