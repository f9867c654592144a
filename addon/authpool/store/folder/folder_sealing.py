"""How a folder's files are sealed and opened: the keys, and the file in which they outlive the process."""

import logging
import time
from collections.abc import Callable, Sequence

from authpool.accounts.account import AccountKey
from authpool.accounts.document import Document
from authpool.errors import BrokenAccountError, SealedError
from authpool.store.folder.key_file import KeyFile
from authpool.store.sealing.key_ring import KeyRing, KeyRingError, OperatorKey, new_ring, unwrapped, wrapped
from authpool.store.sealing.keys import Keys
from authpool.store.sealing.sealed_document import opened_document
from authpool.store.sealing.sealed_value import DataKey, Place, UnsealError, key_id_of

logger = logging.getLogger(__name__)


class FolderSealing:
    """One process's way to the sealed parts of a folder. Meant for worker threads.

    `no_key` says why there is no operator's key where there is none; `holds_sealed` looks whether anything in the
    folder is sealed: asked once, before a first data key is made.
    """

    def __init__(
        self,
        file: KeyFile,
        operator: OperatorKey | None,
        *,
        no_key: str = "",
        holds_sealed: Callable[[], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._keys = Keys(str(file.path), operator, no_key=no_key)
        self._holds_sealed = holds_sealed
        self._now = now

    @property
    def operator(self) -> OperatorKey | None:
        return self._keys.operator

    def locked(self) -> str:
        """Why what is sealed can't be opened, or nothing can be sealed; empty where all is well.

        Raises StoreUnavailableError.
        """
        content = self._file.read()
        if content is not None:
            return self._keys.take_in(content).trouble
        return self._gone() if self._keys.ring is None and self._holds_sealed() else ""

    def opened(self, document: Document, account: AccountKey) -> Document:
        """The document with what is sealed in it. Raises SealedError, BrokenAccountError, StoreUnavailableError."""
        return opened_document(document, account, self.find)

    def find(self, key_id: str) -> DataKey:
        """The data key of that id; where it is not known, another process may have made it a moment ago.

        Raises SealedError, StoreUnavailableError.
        """
        if not self._keys.knows(key_id):
            content = self._file.read()
            if content is not None:
                self._keys.take_in(content)
        return self._keys.find(key_id)

    def text(self, place: Place, value: str) -> str:
        """Open one value. Raises SealedError, BrokenAccountError, StoreUnavailableError."""
        try:
            key_id = key_id_of(value)
            if not key_id:
                raise UnsealError  # noqa: TRY301 - as good as one that does not open
            return self.find(key_id).open(place, value).decode()
        except UnsealError:
            raise BrokenAccountError("it is damaged, or was sealed for another place") from None

    def sealing_key(self) -> DataKey | None:
        """The key to seal with now; None: nothing is to be sealed. Makes the first one where there is none.

        To be asked under the lock of what is to be written: whoever changes the keys changes them first, and takes
        that lock afterwards. Raises SealedError, StoreUnavailableError.
        """
        content = self._file.read()
        now = self._keys.take_in(self._file.change(self._first) if content is None else content)
        if now.lacking:
            logger.warning("%s lacks data keys that this process knows; they are put back into it", self._file.path)
            now = self._keys.take_in(self._file.change(self._with_known))
        return now.sealing_key()

    def change(self, change: Callable[[KeyRing], KeyRing], openers: Sequence[OperatorKey] = ()) -> KeyRing:
        """As `SealsSecrets.change_keys`. Raises SealedError, StoreUnavailableError."""
        operator = self.operator
        if operator is None:
            raise SealedError(self.locked() or "there is no operator's key")
        wanted = {one.fingerprint: one for one in (openers or (operator,))}

        def made(content: bytes | None) -> bytes:
            before = self._first(content)
            try:
                ring = unwrapped(before, operator)
            except KeyRingError as error:
                raise SealedError(f"{self._file.path} can't be opened: {error}") from None
            after = change(ring)
            if after is ring and (not openers or set(ring.openers) == wanted.keys()):
                return before
            if not openers and set(ring.openers) != wanted.keys():
                path = self._file.path
                raise SealedError(f"another operator's key opens {path}, too: finish that first, with `authpool rekey`")
            return wrapped(after, list(wanted.values()))

        self._keys.take_in(self._file.change(made))
        ring = self._keys.ring
        assert ring is not None  # noqa: S101 - it was just written, or read
        return ring

    def _first(self, content: bytes | None) -> bytes:
        """What the file says where there is none: what this process knows, else a first data key."""
        if content is not None:
            return content
        operator = self.operator
        if operator is None:
            raise SealedError(self._gone())
        ring = self._keys.ring
        if ring is not None:
            logger.warning("%s was gone; it is written again, as this process knew it", self._file.path)
            return wrapped(ring, [operator])
        if self._holds_sealed():
            raise SealedError(self._gone())
        return wrapped(new_ring(self._now()), [operator])

    def _with_known(self, content: bytes | None) -> bytes:
        """What the file says, and the data keys that only this process knows."""
        content = self._first(content)
        known, operator = self._keys.ring, self.operator
        if known is None or operator is None:
            return content
        try:
            ring = unwrapped(content, operator)
        except KeyRingError:
            return content
        missing = known.keys.keys() - ring.keys.keys() and ring.openers == (operator.fingerprint,)
        return wrapped(ring.with_keys_of(known), [operator]) if missing else content

    def _gone(self) -> str:
        return f"{self._file.path} is gone, and with it the keys to what is sealed: put it back from a copy of the home"
