"""Importing one account: looking it up, having it proved and written, or written down as disabled."""

from dataclasses import replace

from authpool.accounts.account import Account, AccountKey, Token, fingerprint
from authpool.accounts.events import AccountEvent
from authpool.accounts.name import check_name
from authpool.config import PoolConfig
from authpool.errors import RefusedError, UnprovedError
from authpool.gateway.service import Service
from authpool.verbs.account_writing import AccountWriting
from authpool.verbs.added import Added, paused_note
from authpool.verbs.adding import Adding
from authpool.verbs.credential_index import CredentialIndex
from authpool.verbs.grouped_writes import GroupedWrites
from authpool.verbs.holdings import Holdings
from authpool.verbs.import_formats.entry import ImportEntry
from authpool.verbs.import_plan import HomeView, outcome, token_of
from authpool.verbs.import_report import EntryOutcome, Kind
from authpool.verbs.known_credentials import KnownCredentials
from authpool.verbs.naming import Naming
from authpool.verbs.presented_tokens import PresentedTokens
from authpool.verbs.rescued_tokens import FOLDER, Rescued, RescuedTokens

MARKED = "imported as disabled"
"""The reason of an account whose source says that it is disabled, and not why."""
_CUT_OFF = "an earlier import was cut off while this was presented, and the answer may have been a newer one."
_THERE = "the source says that it is disabled, and there is an account of that name: that one stays as it is"


class AccountImport:
    """Imports the entries of one import, several at a time. `nameless`: the provider is known to tell no names.

    Whoever calls `import_` holds the lock of `RescuedTokens.alone`, and has called `look` since it was taken.
    """

    def __init__(
        self,
        *,
        pool: PoolConfig,
        service: Service,
        holdings: Holdings,
        adding: Adding,
        unclaimed: RescuedTokens,
        known: KnownCredentials,
        index: CredentialIndex,
        prove_disabled: bool,
    ) -> None:
        self.pool = pool
        self.nameless = False
        self._service = service
        self._holdings = holdings
        self._adding = adding
        self._writing = AccountWriting(service, holdings)
        self._unclaimed = unclaimed
        self._index = index
        self._prove_disabled = prove_disabled
        self._naming = Naming(service.store, pool.name)
        self._writes = GroupedWrites(service.store, pool.name)
        self._presented: set[str] = set()
        self._journal = PresentedTokens(service.home / FOLDER)
        self._view = HomeView(pool=pool, index=index, known=known, spent=service.trail.index.known, rescued=())

    async def begin(self) -> None:
        """See what the accounts themselves tell of spent credentials. Raises StoreUnavailableError."""
        trail = self._service.trail.index
        await trail.catch_up()
        for account in self._index.all():
            trail.take_in(account)

    async def look(self, *, tidy: bool = True) -> None:
        """See what others did until now; `tidy`: clear away what they left. Raises StoreUnavailableError."""
        trail = self._service.trail.index
        for key, record in (await self._service.store.changes()).items():
            self._index.put(key, record)
            if isinstance(record, Account):
                trail.take_in(record)
        await trail.catch_up()
        await self._service.run(self._journal.read)
        self._view = replace(self._view, rescued=await (self._still_unclaimed() if tidy else self._unclaimed.all()))

    async def _still_unclaimed(self) -> list[Rescued]:
        """What is kept and in no account; whoever was killed right after it was written left the rest behind."""
        rescued = []
        for one in await self._unclaimed.all():
            if self._index.holding(one.credential.refresh_token or ""):
                await self._unclaimed.discard(one.path)
            else:
                rescued.append(one)
        return rescued

    async def landed(self) -> None:
        """Nothing is under way any more."""
        await self._service.run(self._journal.write)

    def would(self, entry: ImportEntry) -> EntryOutcome:
        """What would become of an entry, were its credential to work."""
        judged = self._view.judge(entry)
        if isinstance(judged, EntryOutcome):
            return judged
        unproved = entry.disabled and not self._prove_disabled
        before = None if entry.expected is None else self._index.get(AccountKey.of(self.pool.name, entry.expected))
        if unproved and before is not None:
            return outcome(entry, self.pool.name, "unchanged", _THERE, before)
        kind: Kind = "added as disabled" if unproved else "added" if before is None else "re-added"
        detail = "" if entry.expected is not None else "the provider tells the name"
        return outcome(entry, self.pool.name, kind, detail, before)

    async def import_(self, entry: ImportEntry) -> EntryOutcome:
        """What became of an entry. Raises UnprovedError, NamelessError, and what `Adding.add_unknown` raises."""
        if self.pool.type != "refresh_token":
            return await self._without_grant(entry)
        judged = self._view.judge(await self._opened(entry))
        if isinstance(judged, ImportEntry) and judged.credential.sealed is not None:
            judged = self._view.judge(await self._opened(judged))
        if isinstance(judged, EntryOutcome):
            return judged
        if judged.disabled and not self._prove_disabled:
            return await self._add_disabled(judged)
        token = token_of(judged.credential) or ""
        if token in self._presented:
            return outcome(entry, self.pool.name, "left out", "the same credential was presented a moment ago")
        name = entry.name
        if self.nameless and entry.expected is None:
            name = entry.nickname
            if name is None:
                raise RefusedError("the provider tells no names: list it with one, as name,refresh_token")
        added = await self._prove(judged, token, name)
        return await self._add_disabled(judged) if added is None else self._told(entry, added)

    async def _prove(self, entry: ImportEntry, token: str, name: str | None) -> Added | None:
        """Present a credential and write its account; None: it is dead, as its source says."""
        mark = fingerprint(token)
        cut_off = mark in self._journal.doubtful
        self._presented.add(token)
        self._journal.begin(mark)
        try:
            added = await self._adding.add_unknown(self.pool, entry.credential, name, self._naming, among=self._writes)
        except UnprovedError as error:
            if error.fault == "provider" and error.spent:
                self._journal.doubt(mark)
            elif error.fault == "credential":
                self._journal.settle(mark)
            if not error.spent:
                self._presented.discard(token)
            if error.fault != "credential":
                raise
            if cut_off:
                told = f"{_CUT_OFF} Now {error}"
                raise UnprovedError(told, fault="credential", spent=True) from error
            if not entry.disabled or error.spent:
                raise
            return None
        self._journal.settle(mark)
        return added

    async def _opened(self, entry: ImportEntry) -> ImportEntry:
        """With the credential that is sealed in it, and all else as the source has it."""
        listed = entry.credential
        if listed.sealed is None:
            return entry
        opened = await self._unclaimed.opened(listed)
        credential = replace(
            listed,
            secret=None,
            sealed=None,
            refresh_token=opened.refresh_token,
            access_token=opened.access_token,
            client=opened.client,
            exchanged_from=opened.exchanged_from,
        )
        return replace(entry, credential=credential)

    async def _without_grant(self, entry: ImportEntry) -> EntryOutcome:
        client, name = entry.credential.client, entry.expected or entry.nickname
        before = None if name is None else self._index.get(AccountKey.of(self.pool.name, name))
        if client is not None and before is not None and before.client == client:
            return outcome(entry, self.pool.name, "unchanged", "", before)
        added = await self._adding.add_without_grant(self.pool, entry.credential, name)
        if added is None:
            raise RefusedError(f"pool {self.pool.name} can't be imported into")
        return self._told(entry, added)

    def _told(self, entry: ImportEntry, added: Added) -> EntryOutcome:
        self._index.put(added.account.key, added.account)
        kind: Kind = "added" if added.before is None else "re-added" if added.changed else "unchanged"
        was_disabled = added.before is not None and added.before.disabled and not added.account.disabled
        detail = "it was disabled, and is enabled again" if was_disabled else ""
        return outcome(entry, self.pool.name, kind, f"{detail}{paused_note(added.account)}".lstrip("; "), added.account)

    async def _add_disabled(self, entry: ImportEntry) -> EntryOutcome:
        """Write an account down whose source says that it is disabled; nobody is asked about it."""
        if (name := entry.expected or entry.nickname) is None:
            raise RefusedError("it is disabled and has no name: --prove-disabled asks the provider who it is")
        check_name(name)
        account = self._writing.provisional(
            self.pool, entry.credential, name, Token(refresh_token=token_of(entry.credential))
        ).with_disabled(entry.disabled_reason or MARKED, entry.disabled_at or self._service.clock.time())
        account = replace(account, subject=entry.subject)
        before: Account | None = None

        def add(current: Account | None) -> Account | None:
            nonlocal before
            before = current
            return account if current is None else current

        async with self._holdings.held(account.key) as hold:
            stored = await self._writes.update(hold, add)
            if stored is None or before is not None:
                return outcome(entry, self.pool.name, "unchanged", _THERE, stored)
            self._service.notify(AccountEvent(kind="added", account=stored, reason=MARKED))
        self._index.put(stored.key, stored)
        return outcome(entry, self.pool.name, "added as disabled", stored.disabled_reason or "", stored)
