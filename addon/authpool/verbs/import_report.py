"""How an import ended, entry by entry. There is no secret in it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

type Kind = Literal["added", "re-added", "added as disabled", "unchanged", "left out", "failed", "not tried"]

KINDS: tuple[Kind, ...] = ("added", "re-added", "added as disabled", "unchanged", "left out", "failed", "not tried")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryOutcome:
    """What became of one entry, or would become of it. `account` is POOL/NAME, as far as anybody knows."""

    where: str
    kind: Kind
    account: str | None = None
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What became of all. `stopped` says why the rest was not tried, `dry_run` that nothing was done at all."""

    pool: str
    dry_run: bool = False
    outcomes: list[EntryOutcome] = field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False

    @property
    def counts(self) -> dict[Kind, int]:
        """How many entries ended how; only what there is."""
        counted = Counter(outcome.kind for outcome in self.outcomes)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}

    @property
    def trouble(self) -> str:
        """Why this import is not complete, in a sentence; empty where it is."""
        counts = self.counts
        failed, untried = counts.get("failed", 0), counts.get("not tried", 0)
        told = [f"stopped: {self.stopped}"] if self.stopped else []
        told += ["it was interrupted"] if self.interrupted else []
        told += [f"{failed} of {len(self.outcomes)} entries failed"] if failed else []
        told += [f"{untried} not tried: the same command goes on with them"] if untried else []
        return "; ".join(told)
