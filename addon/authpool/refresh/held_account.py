"""An account that is held, and until when."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from authpool.store import Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAccount:
    """What a flight holds; who takes `stack` over (`pop_all`) lets go of it."""

    hold: Hold
    stack: AsyncExitStack
