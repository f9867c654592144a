"""Which account of a pool a request goes to next, those it was tried on left out."""

from authpool.pool.pool import Member, Pool
from authpool.requests.pooled_request import PooledRequest


def choose(pool: Pool, pooled: PooledRequest, now: float) -> Member | None:
    """Pick an account; None when nobody can serve.

    A request that was refused meets no account on probation for refused tokens while another can serve: `max_accounts`
    of those one after the other, and its client would get the refusal. Where nobody can, one that is out for what it
    was refused elsewhere may serve this request all the same, or one that was told to pause for one other path.
    """
    pooled.suspect = None
    pooled.lane = pool.path_pauses.lane_of(pooled.lane, pooled.request)
    doubtful = pool.suspects.keys() if pooled.refused else ()
    if doubtful and (member := pool.choose(pooled.request, pooled.tried.union(doubtful), pooled.lane)) is not None:
        return member
    member = pool.choose(pooled.request, pooled.tried, pooled.lane)
    if member is None:
        member = pool.suspects.choose(pooled.request, pooled.tried, pooled.lane, now)
        pooled.suspect = None if member is None else member.key
    return member or pool.path_pauses.choose(pooled.request, pooled.tried, pooled.lane, now)
