"""The verb `import`: many accounts at once, several of them proved at a time.

The same lock as for `add` is held, in turns of a few seconds, so that an `add` or another import goes on in between. At
the beginning of a turn it is looked up, once, what others did meanwhile: within it nobody else presents a credential
that is in no account yet. So no credential is presented that somebody else, or an earlier run, exchanged already.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from authpool.errors import (
    AuthpoolError,
    ConfigurationError,
    NamelessError,
    StoreUnavailableError,
    UnprovedError,
)
from authpool.gateway.service import Service
from authpool.oauth.discovery import DiscoveryError
from authpool.verbs.adding import Adding
from authpool.verbs.holdings import Holdings
from authpool.verbs.import_account import AccountImport
from authpool.verbs.import_formats.entry import Found, ImportEntry
from authpool.verbs.import_pace import Pace
from authpool.verbs.import_plan import Group, grouped, outcome
from authpool.verbs.import_report import EntryOutcome, ImportReport
from authpool.verbs.known_credentials import KnownCredentials
from authpool.verbs.rescued_tokens import RescuedTokens

logger = logging.getLogger(__name__)

JOBS = 8
TURN_SECONDS = 2.0
BETWEEN_TURNS_SECONDS = 0.06
"""Long enough for whoever waits for the lock to see that it is free (`authpool.files.kernel_lock`)."""
TRIES = 8
"""So often is an entry tried that a provider has no answer for."""
TROUBLES = 8
"""So many entries in a row that failed through no fault of their own: the rest would, too."""

type Progress = Callable[[int, int, str], None]
"""Told how many entries are settled, of how many, and what is waited for, if for anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """`jobs`: so many credentials are proved at a time."""

    jobs: int = JOBS
    dry_run: bool = False
    prove_disabled: bool = False


class Importing:
    """Carries imports out on one home."""

    def __init__(self, service: Service, holdings: Holdings, adding: Adding, unclaimed: RescuedTokens) -> None:
        self._service = service
        self._holdings = holdings
        self._adding = adding
        self._unclaimed = unclaimed

    async def run(
        self, pool_name: str, found: Sequence[Found], options: ImportOptions, progress: Progress = lambda *told: None
    ) -> ImportReport:
        """Import what was found; whoever cancels it gets the report of what was done until then.

        Raises RefusedError, StoreError, ConfigurationError: then nothing was done.
        """
        pool = self._holdings.pool(pool_name)
        await self._holdings.require_open()
        if pool.type != "static":
            self._holdings.require_secret(pool)
        groups, settled = grouped(found, pool.name)
        known = KnownCredentials(self._service, self._holdings)
        account = AccountImport(
            pool=pool,
            service=self._service,
            holdings=self._holdings,
            adding=self._adding,
            unclaimed=self._unclaimed,
            known=known,
            index=await known.index(),
            prove_disabled=options.prove_disabled,
        )
        await account.begin()
        run = _Run(account, self._service, self._holdings, self._unclaimed, options, progress)
        return await run.carry_out(groups, settled)


class _Run:
    """One import, from its first entry to its report."""

    def __init__(
        self,
        account: AccountImport,
        service: Service,
        holdings: Holdings,
        unclaimed: RescuedTokens,
        options: ImportOptions,
        progress: Progress,
    ) -> None:
        self._account = account
        self._pool = account.pool.name
        self._service = service
        self._holdings = holdings
        self._unclaimed = unclaimed
        self._options = options
        self._progress = progress
        self._pace = Pace(service.clock)
        self._queue: deque[Group] = deque()
        self._report = ImportReport(pool=self._pool, dry_run=options.dry_run)
        self._total = 0
        self._turn_ends = 0.0
        self._troubles = 0
        self._tries: Counter[str] = Counter()

    async def carry_out(self, groups: Sequence[Group], settled: Sequence[EntryOutcome]) -> ImportReport:
        self._queue.extend(groups)
        self._report.outcomes.extend(settled)
        self._total = len(settled) + sum(map(len, groups))
        self._tell()
        try:
            await (self._look_only() if self._options.dry_run else self._take_turns())
        except asyncio.CancelledError:
            self._report.interrupted = True
        for group in self._queue:
            self._report.outcomes += [outcome(entry, self._pool, "not tried") for entry in group]
        return self._report

    # --- turns ------------------------------------------------------------------------------------------------

    async def _take_turns(self) -> None:
        while self._queue and not self._over:
            while (wait := self._pace.wait_seconds) > 0:
                self._tell(f"the provider is asked again in {wait:.0f} s" if wait >= 1 else "")
                await self._service.clock.sleep(min(wait, 1.0))
            try:
                alone = self._holdings.patiently(self._unclaimed.alone(), "another `add` is under way in a process")
                async with alone:
                    await self._account.look()
                    await self._work()
            except AuthpoolError as error:  # nothing can be kept, or somebody else does not let go
                self._report.stopped = str(error)
            if self._queue and not self._over:
                await self._service.clock.sleep(BETWEEN_TURNS_SECONDS)

    @property
    def _over(self) -> bool:
        return bool(self._report.stopped) or self._report.interrupted

    async def _work(self) -> None:
        """Let jobs take entries until the turn ends; what is under way comes to its end, also when it is cancelled."""
        self._turn_ends = self._service.clock.monotonic() + TURN_SECONDS
        jobs = [asyncio.create_task(self._job(), name=f"authpool import {n}") for n in range(self._options.jobs)]
        while any(not job.done() for job in jobs):
            try:
                await asyncio.wait(jobs)
            except asyncio.CancelledError:
                self._report.interrupted = True
        for job in jobs:
            job.result()
        await self._account.landed()

    async def _job(self) -> None:
        while self._queue and not self._over and self._pace.wait_seconds <= 0:
            if self._service.clock.monotonic() >= self._turn_ends:
                return
            group = self._queue.popleft()
            if rest := await self._settle(group):
                self._queue.appendleft(rest)
            self._tell()

    async def _look_only(self) -> None:
        await self._account.look()
        while self._queue:
            group = self._queue.popleft()
            self._report.outcomes.append(self._account.would(group[0]))
            self._leave_out(group[1:], group[0])

    # --- one account ------------------------------------------------------------------------------------------

    async def _settle(self, group: Group) -> Group:
        """Settle the first entry, and the others unless that failed; what is to be tried again later is answered."""
        while group:
            entry = group[0]
            settled = await self._outcome(entry)
            if settled is None:
                return group
            self._report.outcomes.append(settled)
            group = group[1:]
            if settled.kind != "failed":
                self._leave_out(group, entry)
                return []
            if self._over:
                return group
        return []

    def _leave_out(self, group: Group, newer: ImportEntry) -> None:
        detail = f"there is a newer credential of that account: {newer.where}"
        self._report.outcomes += [outcome(entry, self._pool, "left out", detail) for entry in group]

    async def _outcome(self, entry: ImportEntry) -> EntryOutcome | None:
        """What became of an entry; None: try again later."""
        try:
            settled = await self._account.import_(entry)
            if settled.kind in {"added", "re-added"}:
                self._answered()
            return settled
        except UnprovedError as error:
            return self._unproved(entry, error)
        except (StoreUnavailableError, ConfigurationError, DiscoveryError) as error:
            self._report.stopped = str(error)
            return outcome(entry, self._pool, "failed", str(error))
        except AuthpoolError as error:
            return self._refused(entry, error)
        except Exception as error:
            logger.exception("An entry can't be imported: %s", entry.where)
            return outcome(entry, self._pool, "failed", f"unexpected error ({type(error).__name__})")

    def _refused(self, entry: ImportEntry, error: AuthpoolError) -> EntryOutcome | None:
        """What came of an entry that was proved: the cause says what was wrong, the error where it is kept."""
        cause = error.__cause__
        if isinstance(cause, UnprovedError):
            return self._unproved(entry, cause, str(error))
        if isinstance(cause, StoreUnavailableError):
            self._report.stopped = str(cause)
        if isinstance(cause, NamelessError):
            self._account.nameless = True
            if entry.nickname is not None and self._may_try_again(entry):
                return None
        return outcome(entry, self._pool, "failed", str(error))

    def _unproved(self, entry: ImportEntry, error: UnprovedError, told: str = "") -> EntryOutcome | None:
        failed = outcome(entry, self._pool, "failed", told or str(error))
        untouched = outcome(entry, self._pool, "not tried")
        if error.fault == "credential":
            self._answered()
            return failed
        if error.fault == "client" and entry.credential.client is not None:
            return failed
        if error.fault == "client" and error.code == "invalid_client":
            self._report.stopped = str(error)
            return untouched
        if error.fault == "provider":
            self._pace.failed(error.retry_after_seconds)
            if self._pace.given_up:
                self._report.stopped = f"the provider gives no answer: {error}"
                return failed if error.spent else untouched
            if (told or not error.spent) and self._may_try_again(entry):
                return None  # where it was exchanged, what came of it is kept, and is presented next
        self._troubles += 1
        if self._troubles >= TROUBLES:
            self._report.stopped = f"the last {self._troubles} entries failed through no fault of their own: {error}"
        return failed

    def _may_try_again(self, entry: ImportEntry) -> bool:
        """Not for ever: a provider may answer everybody else."""
        self._tries[entry.where] += 1
        self._turn_ends = 0.0  # what was just kept is to be seen first
        return self._tries[entry.where] < TRIES

    def _answered(self) -> None:
        self._troubles = 0
        self._pace.answered()

    def _tell(self, waiting: str = "") -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone
            self._progress(len(self._report.outcomes), self._total, waiting)
