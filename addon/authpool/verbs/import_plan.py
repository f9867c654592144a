"""What an import makes of its entries before anybody is asked: what is here already, what is spent, what is double."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.config import PoolConfig
from authpool.errors import RefusedError
from authpool.pool.report import timestamp
from authpool.store.trail_index import Known
from authpool.verbs.credential_index import CredentialIndex
from authpool.verbs.import_formats.entry import Found, ImportEntry, Unreadable
from authpool.verbs.import_report import EntryOutcome, Kind
from authpool.verbs.known_credentials import KnownCredentials
from authpool.verbs.rescued_tokens import Rescued
from authpool.verbs.sources import Credential

type Group = list[ImportEntry]
"""The entries of one account: what comes first is tried first, and the others only when that fails."""


def grouped(found: Iterable[Found], pool: str) -> tuple[list[Group], list[EntryOutcome]]:
    """Put together what is one account's, as far as the entries tell; and what became of the rest."""
    groups: dict[object, Group] = {}
    tokens: dict[str, str] = {}
    settled: list[EntryOutcome] = []
    for number, one in enumerate(found):
        if isinstance(one, Unreadable):
            kind: Kind = "left out" if one.foreign else "failed"
            settled.append(EntryOutcome(where=one.where, kind=kind, detail=one.problem))
            continue
        token = token_of(one.credential)
        if token is not None and (first := tokens.setdefault(token, one.where)) != one.where:
            settled.append(outcome(one, pool, "left out", f"the same credential is listed twice: {first}"))
            continue
        key = number if one.expected is None else AccountKey.of(pool, one.expected)
        groups.setdefault(key, []).append(one)
    return [_newest_first(group) for group in groups.values()], settled


def _newest_first(group: Group) -> Group:
    """Of two that the source tells no time of, the later one is the newer; one that is disabled comes last."""
    numbered = sorted(enumerate(group), key=lambda one: (not one[1].disabled, one[1].renewed_at or 0, one[0]))
    return [entry for _, entry in reversed(numbered)]


def token_of(credential: Credential) -> str | None:
    """What is presented for a credential."""
    return credential.refresh_token or credential.secret


def outcome(
    entry: ImportEntry, pool: str, kind: Kind, detail: str = "", account: Account | None = None
) -> EntryOutcome:
    """What became of an entry."""
    address = account.address if account is not None else f"{pool}/{entry.expected}" if entry.expected else None
    return EntryOutcome(where=entry.where, kind=kind, account=address, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeView:
    """What is known of a home's credentials at one moment.

    `spent` tells what the audit trail knows of a credential, `rescued` is what was exchanged and is in no account yet.
    """

    pool: PoolConfig
    index: CredentialIndex
    known: KnownCredentials
    spent: Callable[[str, AccountKey | None], Known | None]
    rescued: Collection[Rescued]

    def judge(self, entry: ImportEntry) -> EntryOutcome | ImportEntry:
        """What became of an entry that nobody is to be asked about; else what is to be presented for it."""
        token = token_of(entry.credential)
        if token is None:
            return outcome(entry, self.pool.name, "failed", "it holds no refresh token")
        if (here := self._here(entry, token)) is not None:
            return here
        mark = fingerprint(token)
        successor = next((one for one in self.rescued if mark in one.credential.exchanged_from), None)
        if successor is None:
            return entry
        return self._with_successor(entry, successor)

    def _with_successor(self, entry: ImportEntry, rescued: Rescued) -> EntryOutcome | ImportEntry:
        """The entry's own token is spent: an earlier run was given another one for it, which is kept."""
        kept = rescued.credential
        credential = replace(
            entry.credential,
            secret=None,
            refresh_token=kept.refresh_token,
            path=rescued.path,
            exchanged_from=kept.exchanged_from,
            sealed=kept.sealed,
        )
        renewed = replace(entry, credential=credential)
        return renewed if kept.refresh_token is None else self._here(renewed, kept.refresh_token) or renewed

    def _here(self, entry: ImportEntry, token: str) -> EntryOutcome | None:
        try:
            twin = self.known.of(self.index, self.pool, token)
        except RefusedError as refused:
            return outcome(entry, self.pool.name, "failed", str(refused))
        if twin is not None:
            return self._unchanged(entry, twin)
        expected = None if entry.expected is None else AccountKey.of(self.pool.name, entry.expected)
        known = self.spent(fingerprint(token), expected)
        if known is None or known.exchanged_at is None:
            return None
        holder = self.index.get(known.account)
        if holder is not None and holder.pool == self.pool.name and expected in {None, holder.key}:
            return self._unchanged(entry, holder)
        by = f"{known.account}, which is not here any more," if holder is None else holder.address
        return outcome(
            entry,
            self.pool.name,
            "failed",
            f"that refresh token is spent: {by} has exchanged it for a newer one, "
            f"{timestamp(known.exchanged_at)}. To present it again may end that grant: sign in again",
        )

    def _unchanged(self, entry: ImportEntry, twin: Account) -> EntryOutcome:
        expected = entry.name or (entry.credential.name if twin.subject is None else None)
        if expected is not None and AccountKey.of(twin.pool, expected) != twin.key:
            detail = f"that refresh token is the one of {twin.address}, not of {expected}"
            return outcome(entry, self.pool.name, "failed", detail)
        state = f"it is disabled ({twin.disabled_reason or 'no reason given'})" if twin.disabled else ""
        return outcome(entry, self.pool.name, "unchanged", state, twin)
