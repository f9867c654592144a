"""Telling a dead client from dead accounts, and holding back the refreshes of a client that is rejected."""

from dataclasses import dataclass, replace

from authpool.account import AccountKey

WINDOW_SECONDS = 600.0
ACCOUNTS = 4
"""A storm: so many different accounts of one client rejected in the window, and not one accepted in between."""
FAULT_SECONDS = 60.0
"""So long a client that is at fault is not asked again, unless somebody says so."""

WAY_OUT = "mend the client's settings, or add an account again: the first success ends this"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why the refreshes of one client are held back, and until when (Unix seconds)."""

    pools: frozenset[str]
    """Who asks with that client, as far as they were seen to."""
    detail: str
    until: float


class ClientWatch:
    """What token endpoints said of their clients lately. A client is named by a string of `GrantRequest.client`."""

    def __init__(self) -> None:
        self._rejected: dict[str, dict[AccountKey, float]] = {}
        self._faults: dict[str, Fault] = {}

    def rejected(self, client: str, account: AccountKey, now: float) -> bool:
        """Note an `invalid_grant`; True when it is one of a storm, and must disable nothing."""
        recent = self._rejected.setdefault(client, {})
        recent[account] = now
        for key in [key for key, at in recent.items() if not now - WINDOW_SECONDS <= at <= now]:
            del recent[key]
        return len(recent) >= ACCOUNTS

    def accepted(self, client: str) -> Fault | None:
        """Note a success: whatever is rejected next is an account's own fault. Returns the fault that it ends."""
        self._rejected.pop(client, None)
        return self._faults.pop(client, None)

    def blame(self, client: str, pool: str, detail: str, now: float) -> bool:
        """Hold the client's refreshes back for a while; True when that is news to the pool."""
        known = self._faults.get(client)
        pools = frozenset() if known is None else known.pools
        self._faults[client] = Fault(pools=pools | {pool}, detail=detail, until=now + FAULT_SECONDS)
        return pool not in pools

    def held_back(self, client: str, pool: str, now: float) -> Fault | None:
        """The fault for which the client is not to be asked now, by this pool as little as by the one that met it."""
        fault = self._faults.get(client)
        # An `until` further away than it can have been set: the wall clock was put back.
        if fault is None or not now < fault.until <= now + FAULT_SECONDS:
            return None
        if pool not in fault.pools:
            fault = self._faults[client] = replace(fault, pools=fault.pools | {pool})
        return fault

    def fault_of(self, pool: str) -> str | None:
        """Why a pool's refreshes are held back, for people."""
        return next((fault.detail for fault in self._faults.values() if pool in fault.pools), None)

    def forget(self) -> None:
        """Somebody changed the configuration: every client gets another chance."""
        self._rejected.clear()
        self._faults.clear()
