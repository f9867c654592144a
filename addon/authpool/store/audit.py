"""The audit trail: an entry for each change of an account's life. Pure; where they are kept is the store's affair."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from authpool.accounts.account import Account, fingerprint
from authpool.accounts.events import AccountEvent, EventKind

type ProcessKind = Literal["gateway", "command line"]

type ClientEvent = Literal["client added", "client rotated", "client removed"]

CLIENT = "client:"
"""So begins what stands for an account in the entry of a client of the gateway; its name follows."""
USED_BY = "by client "
"""So begins the reason of the entry `used`; the client's name follows."""

_WORDS: Mapping[EventKind, str] = {"readded": "re-added", "rotated": "refreshed"}
_LOST = "rotation_lost:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Who made a change."""

    pid: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry. `time` is in Unix seconds, `account` is POOL/NAME, `fingerprint` tells the credential after it.

    `event`: added, re-added, refreshed (the refresh token rotated), disabled, lost, enabled, paused, resumed, moved,
    removed, exported (all of a pool: `account` is POOL/*); used (by a client of the gateway, once a day), client added,
    client rotated, client removed. `replaced` is the fingerprint of the refresh token that was exchanged for this one,
    where one was. `late` says that the entry could not be written when it happened: what stands before it in the trail
    may have happened afterwards.
    """

    time: int
    event: str
    account: str
    reason: str
    process: Process
    fingerprint: str | None
    generation: int
    replaced: str | None = None
    late: bool = field(default=False, compare=False)
    found: bool = field(default=False, compare=False)
    """It was met in a file that was not there at the last look: an older trail may have been put back."""

    def line(self) -> bytes:
        document = asdict(self)
        del document["found"]
        if self.replaced is None:
            del document["replaced"]
        if not self.late:
            del document["late"]
        return json.dumps(document).encode() + b"\n"


def entry_of(event: AccountEvent, *, now: float, process: Process) -> Entry | None:
    """Tell an event as it is written down; None for one that comes and goes: a cooldown, a refresh without rotation."""
    if event.kind in {"refreshed", "cooled"}:
        return None
    lost = event.kind == "disabled" and event.reason.startswith(_LOST)
    return Entry(
        time=int(now),
        event="lost" if lost else _WORDS.get(event.kind, event.kind),
        account=event.account.address,
        reason=event.reason,
        process=process,
        fingerprint=_fingerprint(event.account),
        generation=event.account.generation,
        replaced=event.replaced,
    )


def used_entry(account: str, client: str, *, now: float, process: Process) -> Entry:
    """Tell that a client of the gateway was served by an account (POOL/NAME)."""
    return _entry(event="used", account=account, reason=f"{USED_BY}{client}", now=now, process=process)


def client_entry(event: ClientEvent, client: str, *, reason: str, now: float, process: Process) -> Entry:
    """Tell what happened to a client of the gateway."""
    return _entry(event=event, account=f"{CLIENT}{client}", reason=reason, now=now, process=process)


def exported_entry(pool: str, *, reason: str, now: float, process: Process) -> Entry:
    """Tell that the credentials of a pool were copied, and how; one entry for all of them."""
    return _entry(event="exported", account=f"{pool}/*", reason=reason, now=now, process=process)


def _entry(*, event: str, account: str, reason: str, now: float, process: Process) -> Entry:
    return Entry(
        time=int(now),
        event=event,
        account=account,
        reason=reason,
        process=process,
        fingerprint=None,
        generation=0,
    )


def _fingerprint(account: Account) -> str | None:
    secret = account.token.refresh_token or account.token.access_token
    return None if secret is None else fingerprint(secret)


def parse_entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of lines as `Entry.line` writes them; a line that is no entry is left out."""
    return (entry for entry in map(_parse, lines) if entry is not None)


def _parse(line: bytes) -> Entry | None:
    try:
        document = json.loads(line)
        return Entry(
            time=int(document["time"]),
            event=str(document["event"]),
            account=str(document["account"]),
            reason=str(document["reason"]),
            process=Process(pid=int(document["process"]["pid"]), kind=str(document["process"]["kind"])),
            fingerprint=None if document["fingerprint"] is None else str(document["fingerprint"]),
            generation=int(document["generation"]),
            replaced=None if document.get("replaced") is None else str(document["replaced"]),
            late=document.get("late") is True,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
