"""The wrapped data keys: who has the operator's key opens them, and nobody changes what stands beside them."""

import pytest

from authpool.errors import SealedError
from authpool.store.sealing.key_ring import KeyRing, KeyRingError, OperatorKey, new_ring, unwrapped, wrapped
from authpool.store.sealing.keys import Keys
from authpool.store.sealing.sealed_value import Place

OURS, OTHER = OperatorKey(bytes(range(32))), OperatorKey(bytes(range(1, 33)))
PLACE = Place("token", "google", "alice")


def test_what_was_wrapped_is_unwrapped() -> None:
    ring = new_ring(5.7)
    read = unwrapped(wrapped(ring, [OURS]), OURS)
    assert (dict(read.keys), read.current, read.sealing) == (dict(ring.keys), ring.current, True)
    assert (dict(read.created_at), read.openers) == ({ring.current: 5}, (OURS.fingerprint,))


def test_no_key_stands_in_the_document() -> None:
    ring = new_ring(0)
    content = wrapped(ring, [OURS])
    for secret in (OURS.secret, ring.keys[ring.current].secret):
        assert secret not in content
        assert secret.hex().encode() not in content
    assert OURS.secret.hex() not in repr(OURS)


def test_another_operator_s_key_is_told_by_its_fingerprint() -> None:
    with pytest.raises(KeyRingError, match=f"{OURS.fingerprint}.*{OTHER.fingerprint}"):
        unwrapped(wrapped(new_ring(0), [OURS]), OTHER)


def test_several_operator_s_keys_open_it() -> None:
    content = wrapped(new_ring(0), [OURS, OTHER])
    assert unwrapped(content, OURS) == unwrapped(content, OTHER)


def test_a_new_key_seals_and_the_former_still_opens() -> None:
    former = new_ring(0)
    value = former.keys[former.current].seal(PLACE, b"secret")
    ring = unwrapped(wrapped(former.with_new_key(9), [OURS]), OURS)
    assert ring.current != former.current
    assert ring.keys[former.current].open(PLACE, value) == b"secret"


@pytest.mark.parametrize(
    ("change", "to"),
    (
        ("sealing = true", "sealing = false"),
        ("version = 1", "version = 2"),
        ("version = 1", 'version = "1"'),
        ('current = "', 'current = "x'),
        ("[keys.wrapped]", "[keys.other]"),
        ("wrapped]\n", "wrapped]\nx = 1\n"),
        ("created_at = 0", "created_at = true"),
        ("sealing", "[sealing"),
        ("sealing = true", 'sealing = "true"'),
    ),
)
def test_a_document_that_somebody_changed_is_not_taken(change: str, to: str) -> None:
    """Whether anything is sealed, and with which key, is bound into each wrapped key."""
    content = wrapped(new_ring(0), [OURS]).decode()
    assert change in content
    with pytest.raises(KeyRingError):
        unwrapped(content.replace(change, to, 1).encode(), OURS)


def test_an_older_key_can_not_be_made_the_current_one() -> None:
    first = new_ring(0)
    both = first.with_new_key(1)
    content = wrapped(both, [OURS]).decode()
    changed = content.replace(f'current = "{both.current}"', f'current = "{first.current}"')
    assert changed != content
    with pytest.raises(KeyRingError):
        unwrapped(changed.encode(), OURS)


@pytest.mark.parametrize("content", (b"", b"\xff", b"version = 1", wrapped(new_ring(0), [OURS])[:-40]))
def test_half_a_document_is_none(content: bytes) -> None:
    with pytest.raises(KeyRingError):
        unwrapped(content, OURS)


class TestKeys:
    """What one process knows."""

    def test_it_seals_with_what_the_document_says_now(self) -> None:
        keys = Keys("sealing.toml", OURS)
        ring = new_ring(0)
        for now in (
            ring,
            ring.with_new_key(1),
            KeyRing(keys=ring.keys, created_at=ring.created_at, current=ring.current),
        ):
            told = keys.take_in(wrapped(now, [OURS]))
            sealing = told.sealing_key()
            assert sealing is not None
            assert sealing.id == now.current

    def test_it_seals_nothing_where_the_document_says_so(self) -> None:
        ring = new_ring(0)
        keys = Keys("sealing.toml", OURS)
        told = keys.take_in(wrapped(ring, [OURS]))
        off = KeyRing(keys=ring.keys, created_at=ring.created_at, current=ring.current, sealing=False)
        told = keys.take_in(wrapped(off, [OURS]))
        assert told.sealing_key() is None
        assert keys.find(ring.current) == ring.keys[ring.current]

    def test_a_process_goes_on_with_the_keys_it_has_when_they_are_wrapped_anew(self) -> None:
        """With a data key that it does not know it writes nothing: others could open that, and not what it writes."""
        ring = new_ring(0)
        keys = Keys("sealing.toml", OURS)
        told = keys.take_in(wrapped(ring, [OURS]))
        told = keys.take_in(wrapped(ring, [OTHER]))
        assert told.sealing_key() == ring.keys[ring.current]
        told = keys.take_in(wrapped(ring.with_new_key(1), [OTHER]))
        with pytest.raises(SealedError, match="another operator's key"):
            told.sealing_key()
        assert keys.find(ring.current) == ring.keys[ring.current]

    def test_a_word_that_nobody_vouches_for_unseals_nothing(self) -> None:
        """Who can't open the document does not believe it that nothing is to be sealed."""
        ring = new_ring(0)
        keys = Keys("sealing.toml", OURS)
        told = keys.take_in(wrapped(ring, [OURS]))
        off = KeyRing(keys=ring.keys, created_at=ring.created_at, current=ring.current, sealing=False)
        told = keys.take_in(wrapped(off, [OTHER]))
        with pytest.raises(SealedError):
            told.sealing_key()
        told = keys.take_in(wrapped(ring, [OURS]).replace(b"sealing = true", b"sealing = false"))
        with pytest.raises(SealedError, match="changed after it was written"):
            told.sealing_key()

    def test_a_key_that_is_not_in_the_document_any_more_is_missed(self) -> None:
        """Somebody put an older copy back: what was sealed since can be opened by this process alone."""
        ring = new_ring(0)
        newer = ring.with_new_key(1)
        keys = Keys("sealing.toml", OURS)
        assert not keys.take_in(wrapped(newer, [OURS])).lacking
        told = keys.take_in(wrapped(ring, [OURS]))
        assert told.lacking
        assert told.sealing_key() == ring.keys[ring.current]
        assert keys.find(newer.current) == newer.keys[newer.current]

    @pytest.mark.parametrize("sealing", (True, False))
    def test_without_an_operator_s_key_nothing_is_written_that_should_be_sealed(self, *, sealing: bool) -> None:
        ring = new_ring(0)
        keys = Keys("sealing.toml", None, no_key="there is none")
        now = KeyRing(keys=ring.keys, created_at=ring.created_at, current=ring.current, sealing=sealing)
        told = keys.take_in(wrapped(now, [OURS]))
        if sealing:
            with pytest.raises(SealedError, match="there is none"):
                told.sealing_key()
        else:
            assert told.sealing_key() is None
        with pytest.raises(SealedError, match="there is none"):
            keys.find(ring.current)
