"""`authpool reload`: what each gateway that runs on a home made of it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from authpool.gateway.presence import Neighbour, neighbours

ANSWER_SECONDS = 15.0
"""So long a gateway has: it notices within a second, and reads its accounts."""
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one gateway did. `silent`: it runs, and has not answered; `ended`: it is gone."""

    pid: int
    did: Literal["reloaded", "refused", "silent", "ended"]
    error: str = ""

    @property
    def failed(self) -> bool:
        return self.did in {"refused", "silent"}

    def __str__(self) -> str:
        match self.did:
            case "reloaded":
                return f"Gateway {self.pid} reloaded"
            case "refused":
                return f"gateway {self.pid} refused: {self.error} Its old configuration stays in force"
            case "silent":
                return f"gateway {self.pid} has not answered within {ANSWER_SECONDS:g} s: look at its log"
            case "ended":
                return f"Gateway {self.pid} has ended meanwhile"


def reload_gateways(
    home: Path,
    ask: Callable[[], int],
    *,
    answer_seconds: float = ANSWER_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Outcome]:
    """Let every gateway on the home reload, and wait for what each says. Raises OSError.

    `ask` asks them, through the store, and answers the number of that request.
    """
    running = {one.file: one for one in neighbours(home)}
    number = ask()
    end = time.monotonic() + answer_seconds
    alive = running
    while any(not _has_answered(one, number) for one in alive.values()) and time.monotonic() < end:
        sleep(_LOOK_SECONDS)
        alive = {one.file: one for one in neighbours(home)}
        running |= alive
    return list(_outcomes(running, alive, number))


def _has_answered(one: Neighbour, number: int) -> bool:
    return one.reloaded is not None and one.reloaded.request >= number


def _outcomes(running: dict[str, Neighbour], alive: dict[str, Neighbour], number: int) -> Iterator[Outcome]:
    for one in running.values():
        if one.file not in alive:
            yield Outcome(pid=one.pid, did="ended")
        elif one.reloaded is None or not _has_answered(one, number):
            yield Outcome(pid=one.pid, did="silent")
        elif one.reloaded.error:
            yield Outcome(pid=one.pid, did="refused", error=one.reloaded.error)
        else:
            yield Outcome(pid=one.pid, did="reloaded")
