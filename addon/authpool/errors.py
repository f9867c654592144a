"""Every exception authpool raises on purpose.

    AuthpoolError
    ├── DiscoveryError            an issuer's metadata can't be had (`authpool.oauth.discovery`)
    ├── ConfigurationError        authpool.toml (or the provider's client set-up) is wrong: an operator edits it
    ├── StoreError                an account could not be read or written
    │   ├── UnknownAccountError   there is no such account
    │   ├── BrokenAccountError    its record can't be read as an account; only this account is affected
    │   ├── BrokenClientError     likewise of a client of the gateway
    │   ├── HoldLostError         somebody else may hold it by now: nothing more is decided about it
    │   └── StoreUnavailableError the disk is full, the folder is read-only or gone: try again
    │       └── SealedError       it is sealed, and the key to it is not at hand: nothing is wrong with it
    ├── TokenSourceError          a plugin's token source has no access token (`authpool.refresh.token_source`)
    │   ├── CredentialDeadError          the account is to be disabled: a person must act
    │   ├── CredentialUnavailableError   not now: try again
    │   └── CredentialMisconfiguredError the pool is at fault, no account is
    ├── InjectionRefusedError     a plugin puts no credential on a request (`authpool.requests.injector`)
    └── RefusedError              a command was understood and refused; the message says why and what to do
        ├── NamelessError         the provider tells no name for an account, and nobody else did
        └── UnprovedError         a provider gave no token for a credential: whose fault that is decides what to do next

What a token endpoint answers is data, not an exception: see `authpool.oauth.verdict`.
No message ever holds a token, a body or a header value.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Literal

_FILE = "authpool.toml"
_OURS = f"{Path(__file__).parent}/"


class AuthpoolError(Exception):
    """The root: catch this to catch everything authpool raises on purpose."""

    error_code: str = "failed"
    """Tells scripts what kind of error it is, as `"code"` in the JSON of the command line."""


class ConfigurationError(AuthpoolError):
    """A mistake in the configuration, told as *where*, *what* and *what to do about it*."""

    error_code = "configuration"

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        """`where` names file and key, such as ``authpool.toml: pools.google.token_url``."""
        super().__init__(f"{where}: {problem} {remedy}")
        self.where = where
        self.problem = problem
        self.remedy = remedy

    def place(self, folder: Path) -> None:
        """Say in which folder the file is, where only its name was told."""
        if self.where.startswith(_FILE):
            self.where = f"{folder}/{self.where}"
            self.args = (f"{self.where}: {self.problem} {self.remedy}",)


@contextmanager
def mistakes_placed(home: Path) -> Iterator[None]:
    """Tell mistakes in a home's configuration with the full path of the file: an operator may have several homes."""
    try:
        yield
    except ConfigurationError as error:
        error.place(home)
        raise


class StoreError(AuthpoolError):
    """An account could not be read or written."""

    error_code = "store"


class UnknownAccountError(StoreError):
    """There is no account of that name in that pool."""

    error_code = "unknown_account"


class BrokenAccountError(StoreError):
    """The account's record exists and can't be read as an account."""

    error_code = "broken_account"


class BrokenClientError(StoreError):
    """The record of one of the gateway's clients exists and can't be read; none of its keys is any good."""

    error_code = "broken_client"


class HoldLostError(StoreError):
    """The account is not held any more, so that somebody else may present its refresh token: nothing was changed."""

    error_code = "hold_lost"


class StoreUnavailableError(StoreError):
    """The store itself does not answer (disk full, folder read-only or gone); nothing was changed."""

    error_code = "store_unavailable"


class SealedError(StoreUnavailableError):
    """What is sealed can't be opened, or nothing can be sealed, for the key is not at hand; nothing was changed."""

    error_code = "sealed"


class TokenSourceError(AuthpoolError):
    """A token source has no access token. The detail is one line for operators, and holds no secret."""

    error_code = "token_source"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class CredentialDeadError(TokenSourceError):
    """The account's credential is gone for good, and a person must act: the account is disabled."""


class CredentialUnavailableError(TokenSourceError):
    """There is no token now. `retry_after_seconds`: when to come again, where the source was told."""

    def __init__(self, detail: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class CredentialMisconfiguredError(TokenSourceError):
    """What is wrong is the pool, in authpool.toml or at the provider: nobody is disabled."""


class InjectionRefusedError(AuthpoolError):
    """A request can't be given its credential. The detail is told to its client (400 `request_refused`)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RefusedError(AuthpoolError):
    """A command that was understood and is refused; the message is for the operator."""

    error_code = "refused"

    def __init__(self, message: str, *, error_code: str | None = None) -> None:
        super().__init__(message)
        if error_code is not None:
            self.error_code = error_code


class NamelessError(RefusedError):
    """The provider tells no name for a credential: the operator has to give one."""

    error_code = "name_needed"


type Fault = Literal["credential", "client", "provider"]
_PROOF_CODES: dict[Fault, str] = {
    "credential": "credential_rejected",
    "client": "client_rejected",
    "provider": "provider_unavailable",
}


class UnprovedError(RefusedError):
    """No token came for a credential: it is rejected, or the client is (`code` says how), or the provider has trouble.

    `retry_after_seconds`: when to come again, where the provider told. `spent`: the credential may be spent by it, or
    was exchanged for one that is kept.
    """

    def __init__(
        self,
        message: str,
        *,
        fault: Fault,
        code: str | None = None,
        retry_after_seconds: float | None = None,
        spent: bool = False,
    ) -> None:
        super().__init__(message, error_code=_PROOF_CODES[fault])
        self.fault = fault
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.spent = spent


def raised_at(error: BaseException) -> str:
    """`` in FILE, line N``: the last line of the plugin's own file, rather than of a library that it calls."""
    frames = extract_tb(error.__traceback__, limit=None)
    theirs = [frame for frame in frames if not frame.filename.startswith(_OURS)] or list(frames)
    if not theirs:
        return ""
    where = [frame for frame in theirs if frame.filename == theirs[0].filename][-1]
    return f" in {where.filename}, line {where.lineno}"


def told(error: Exception) -> str:
    """What may be said of an error: only our own are sure to have no secret in their text."""
    return str(error) if isinstance(error, AuthpoolError) else type(error).__name__
