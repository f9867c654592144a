"""Which pool a request belongs to: the most exact host, then the longest path. Pure; every request passes."""

import itertools
import re
from collections.abc import Iterable
from typing import NamedTuple

from authpool.config.host_pattern import HostPattern, HostRank, canonical_host
from authpool.config.path_pattern import NO_PATH, PathPattern, PathRank, comparable_path
from authpool.config.pool_config import PoolConfig

MEMO_SIZE = 4096

type Destination = tuple[str, str, int]


class _Route(NamedTuple):
    """One way into a pool for a given destination. No pattern: any path; no methods: any method."""

    host_rank: HostRank
    path_rank: PathRank
    pattern: re.Pattern[str] | None
    methods: frozenset[str]
    pool: PoolConfig


class Router:
    """Finds the pool of a request by where the request really goes.

    `host` must be the host that is connected to, never the client's Host header: by that a client could have
    any pool's credential sent anywhere.
    """

    def __init__(self, pools: Iterable[PoolConfig]) -> None:
        self._pools = [(pool, _path_entries(pool), frozenset(pool.methods)) for pool in pools]
        self._memo: dict[Destination, tuple[_Route, ...]] = {}

    def match(self, scheme: str, host: str, port: int, method: str, path: str) -> PoolConfig | None:
        """Answer the pool of a request, or None; `path` is in origin-form (RFC 9112 §3.2.1), with query."""
        comparable: str | None = None
        for route in self._routes(scheme, host, port):
            if route.methods and method.upper() not in route.methods:
                continue
            if route.pattern is None:
                return route.pool
            if comparable is None:
                comparable = comparable_path(path) or ""  # no pattern matches the empty path
            if route.pattern.fullmatch(comparable):
                return route.pool
        return None

    def manages(self, scheme: str, host: str, port: int) -> bool:
        """Whether any request to this destination may belong to a pool."""
        return bool(self._routes(scheme, host, port))

    def names(self, scheme: str, host: str, port: int) -> bool:
        """Whether a pool is for this very host, and not just for whatever stands before a ``*.``."""
        return any(route.host_rank[0] for route in self._routes(scheme, host, port))

    def _routes(self, scheme: str, host: str, port: int) -> tuple[_Route, ...]:
        destination = (scheme, host, port)
        routes = self._memo.get(destination)
        if routes is None:
            routes = self._find_routes(scheme.lower(), host, port)
            if len(self._memo) >= MEMO_SIZE:  # clients choose the hosts: start over rather than grow
                self._memo.clear()
            self._memo[destination] = routes
        return routes

    def _find_routes(self, scheme: str, host: str, port: int) -> tuple[_Route, ...]:
        """All ways in, the one that goes first in front; those of one rank never match the same request."""
        name = canonical_host(host)
        if name is None:
            return ()
        routes = []
        for pool, entries, methods in self._pools:
            ranks = [pattern.rank for pattern in pool.hosts if pattern.matches(scheme, name, port)]
            if ranks:
                routes += [_Route(max(ranks), rank, pattern, methods, pool) for rank, pattern in entries]
        return tuple(sorted(routes, key=lambda route: (route.host_rank, route.path_rank), reverse=True))


def _path_entries(pool: PoolConfig) -> list[tuple[PathRank, re.Pattern[str] | None]]:
    patterns = [PathPattern.parse(path) for path in pool.paths]
    return [(pattern.rank, pattern.compiled()) for pattern in patterns] or [(NO_PATH, None)]


def find_tie(pools: Iterable[PoolConfig]) -> tuple[PoolConfig, PoolConfig, HostPattern] | None:
    """Find two pools that some request would belong to equally, and the host they meet at."""
    for first, second in itertools.combinations(pools, 2):
        shared = [host for host in first.hosts if host in second.hosts]
        if shared and _methods_meet(first, second) and _paths_tie(first, second):
            return first, second, shared[0]
    return None


def _methods_meet(first: PoolConfig, second: PoolConfig) -> bool:
    return not first.methods or not second.methods or not set(first.methods).isdisjoint(second.methods)


def _paths_tie(first: PoolConfig, second: PoolConfig) -> bool:
    if not first.paths or not second.paths:
        return not first.paths and not second.paths
    mine = [PathPattern.parse(path) for path in first.paths]
    theirs = [PathPattern.parse(path) for path in second.paths]
    return any(a.rank == b.rank and a.overlaps(b) for a, b in itertools.product(mine, theirs))
