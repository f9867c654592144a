"""What one process knows of the keys: those that it has ever opened, and what the store's document says now."""

from authpool.errors import SealedError
from authpool.store.sealing.key_ring import KeyRing, KeyRingError, OperatorKey, is_sealing, unwrapped
from authpool.store.sealing.sealed_value import DataKey


class Keys:
    """For several threads at once. A data key that was opened once stays known: running gateways go on.

    `where` names the document, `no_key` says why there is no operator's key where there is none.
    """

    def __init__(self, where: str, operator: OperatorKey | None, *, no_key: str = "") -> None:
        self.operator = operator
        self._where = where
        self._no_key = no_key
        self._content: bytes | None = None
        self._known: dict[str, DataKey] = {}
        self._ring: KeyRing | None = None
        self._sealing: DataKey | None = None
        self.trouble = ""
        """Why nothing can be sealed now; empty where it can, or need not."""

    @property
    def ring(self) -> KeyRing | None:
        """The keys as they were when they could be opened last."""
        return self._ring

    def take_in(self, content: bytes | None) -> None:
        """The store's document is this now; None: there is none. Cheap while it stays the same."""
        if content is None or (content == self._content and self._content is not None):
            if content is None:
                self._content = None
                self.trouble = ""
            return
        trouble, sealing = "", None
        try:
            if self.operator is None:
                trouble, sealing = self._without_operator(content)
            else:
                ring = unwrapped(content, self.operator)
                self._known = {**self._known, **ring.keys}
                self._ring, sealing = ring, ring.sealing_key
        except KeyRingError as error:
            trouble, sealing = self._unopened(content, f"{self._where} can't be opened: {error}")
        self.trouble, self._sealing, self._content = trouble, sealing, content

    def find(self, key_id: str) -> DataKey:
        """The key of that id. Raises SealedError when it is not at hand."""
        key = self._known.get(key_id)
        if key is None:
            why = self._no_key if self.operator is None else self.trouble
            raise SealedError(why or f"sealed with the data key {key_id}, which is not in {self._where}")
        return key

    def knows(self, key_id: str) -> bool:
        return key_id in self._known

    def sealing_key(self) -> DataKey | None:
        """The key to seal with; None: nothing is to be sealed. Raises SealedError when it is not at hand."""
        if self.trouble:
            raise SealedError(self.trouble)
        return self._sealing

    def _without_operator(self, content: bytes) -> tuple[str, None]:
        sealing, _ = is_sealing(content)
        return (self._no_key if sealing else ""), None

    def _unopened(self, content: bytes, trouble: str) -> tuple[str, DataKey | None]:
        """The document was wrapped anew, for another operator's key: with a data key that is known all goes on."""
        try:
            sealing, current = is_sealing(content)
        except KeyRingError:
            return trouble, None
        known = self._known.get(current)
        return ("", known) if sealing and known is not None else (trouble, None)
