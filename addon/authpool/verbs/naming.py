"""What an account is called: as the provider says, or by the operator's NAME where two people share that name."""

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.name import check_name
from authpool.accounts.printable import printable
from authpool.errors import BrokenAccountError, NamelessError, RefusedError, UnknownAccountError
from authpool.oauth.identity import Identity
from authpool.store import Store
from authpool.verbs.sources import Credential

_SAYS = "the provider says that this credential is"


class Naming:
    """Names the accounts of one pool. Raises RefusedError for a NAME that is somebody else's."""

    def __init__(self, store: Store, pool: str, *, signed_in: bool = False) -> None:
        """`signed_in`: the credential is of somebody who has just signed in; without, it was given."""
        self._store = store
        self._pool = pool
        self._signed_in = signed_in

    async def expected(self, credential: Credential, name: str | None) -> str | None:
        """The name to expect before the provider was asked: the operator's, else the source's own."""
        claimed = credential.name
        expected = name or claimed
        if expected is not None:
            check_name(expected)
        differ = name is not None and claimed is not None and name.casefold() != claimed.casefold()
        if differ and not any([await self._subject(one) for one in (claimed, name) if one is not None]):
            raise RefusedError(f"the source says that this credential is {printable(claimed or '')}'s, not {name}'s")
        return expected

    async def decided(self, identity: Identity, credential: Credential, name: str | None) -> str:
        """The name, now that the provider has told whose credential it is."""
        told, claimed = identity.name, credential.name
        if told is None:
            chosen = name or claimed
            if chosen is None:
                how = f"authpool login {self._pool} NAME" if self._signed_in else "after SOURCE"
                raise NamelessError(f"the provider tells no name for this credential; say it yourself: {how}")
        else:
            if claimed is not None and claimed.casefold() != told.casefold():
                raise RefusedError(f"{_SAYS} {printable(told)}'s, not {printable(claimed)}'s")
            chosen = told if name is None or name.casefold() == told.casefold() else name
            if chosen != told and not await self._tells_apart(chosen, told, identity.subject):
                raise RefusedError(self._another(printable(told), chosen), error_code="another_account")
        check_name(chosen)
        return chosen

    def _another(self, told: str, name: str) -> str:
        if self._signed_in:
            return f"{told} signed in, not {name}: nothing was changed"
        return f"{_SAYS} {told}'s, not {name}'s"

    async def _tells_apart(self, name: str, told: str, subject: str | None) -> bool:
        """Whether `name` is the subject's own already, or is free while another subject has the name it is told by."""
        if subject is None:
            return False
        stored = await self._stored(name)
        if stored is not None:
            return stored.subject == subject
        return await self._subject(told) not in {None, subject}

    async def _subject(self, name: str) -> str | None:
        stored = await self._stored(name)
        return None if stored is None else stored.subject

    async def _stored(self, name: str) -> Account | None:
        try:
            return await self._store.read(AccountKey.of(self._pool, name))
        except (UnknownAccountError, BrokenAccountError):
            return None
