"""What one process knows of the keys: those that it has ever opened, and what the store's document says now."""

import threading
from dataclasses import dataclass, replace

from authpool.errors import SealedError
from authpool.store.sealing.key_ring import KeyRing, KeyRingError, OperatorKey, is_sealing, unwrapped
from authpool.store.sealing.sealed_value import DataKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysNow:
    """What a document of the store says of sealing. `trouble`: why nothing can be sealed by it; empty where it can."""

    content: bytes
    key: DataKey | None = None
    trouble: str = ""
    lacking: bool = False
    """Whether data keys are not in it that this process has opened before: an older document was put in its place.

    Not told while another operator's key opens it, too, for nobody could wrap them by that one.
    """

    def sealing_key(self) -> DataKey | None:
        """The key to seal with; None: nothing is to be sealed. Raises SealedError when it is not at hand."""
        if self.trouble:
            raise SealedError(self.trouble)
        return self.key


class Keys:
    """For several threads at once. A data key that was opened once stays known: running gateways go on.

    `where` names the document, `no_key` says why there is no operator's key where there is none.
    """

    def __init__(self, where: str, operator: OperatorKey | None, *, no_key: str = "") -> None:
        self.operator = operator
        self._where = where
        self._no_key = no_key
        self._guard = threading.Lock()
        self._now: KeysNow | None = None
        self._ring: KeyRing | None = None

    @property
    def ring(self) -> KeyRing | None:
        """The keys as they were when they could be opened last, and all that were known before."""
        return self._ring

    def take_in(self, content: bytes) -> KeysNow:
        """The store's document is this now. Cheap while it stays the same."""
        with self._guard:
            if self._now is None or self._now.content != content:
                self._now = self._read(content)
            return self._now

    def find(self, key_id: str) -> DataKey:
        """The key of that id. Raises SealedError when it is not at hand."""
        key = self._ring.keys.get(key_id) if self._ring is not None else None
        if key is None:
            why = self._no_key if self.operator is None else self._now.trouble if self._now is not None else ""
            raise SealedError(why or f"sealed with the data key {key_id}, which is not in {self._where}")
        return key

    def knows(self, key_id: str) -> bool:
        return self._ring is not None and key_id in self._ring.keys

    def _read(self, content: bytes) -> KeysNow:
        try:
            if self.operator is None:
                sealing, _ = is_sealing(content)
                return KeysNow(content=content, trouble=self._no_key if sealing else "")
            ring = unwrapped(content, self.operator)
        except KeyRingError as error:
            return self._unopened(content, f"{self._where} can't be opened: {error}")
        known, self._ring = self._ring, ring
        if known is not None and not known.keys.keys() <= ring.keys.keys():
            self._ring = ring.with_keys_of(known)
        alone = ring.openers == (self.operator.fingerprint,)
        return KeysNow(content=content, key=ring.sealing_key, lacking=self._ring is not ring and alone)

    def _unopened(self, content: bytes, trouble: str) -> KeysNow:
        """The document was wrapped anew, for another operator's key: with a data key that is known all goes on."""
        now = KeysNow(content=content, trouble=trouble)
        try:
            sealing, current = is_sealing(content)
        except KeyRingError:
            return now
        return replace(now, key=self.find(current), trouble="") if sealing and self.knows(current) else now
