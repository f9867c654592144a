"""One account as a source lists it, and what of a source could not be read as one."""

from dataclasses import dataclass

from authpool.verbs.sources import Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportEntry:
    """One account. `where` says for people where it stands; all times are Unix seconds, None where nobody tells.

    `name` is what the list calls the account, as an operator's NAME does; `credential.name` is what another tool was
    told by the provider; `nickname` is taken where neither is there and the provider tells none. `renewed_at` tells
    which of two credentials of one account is the newer one.
    """

    where: str
    credential: Credential
    name: str | None = None
    nickname: str | None = None
    subject: str | None = None
    renewed_at: int | None = None
    disabled: bool = False
    disabled_at: int | None = None
    disabled_reason: str | None = None

    @property
    def expected(self) -> str | None:
        """Whose account it is, as far as the source tells."""
        return self.name or self.credential.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """What is no account that can be imported, and why. `foreign`: nothing says that it was meant to be one."""

    where: str
    problem: str
    foreign: bool = False


type Found = ImportEntry | Unreadable
