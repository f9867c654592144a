"""A list under a passphrase: opened with it, and by nobody who changed anything."""

import json
from typing import Any

import pytest

from authpool.errors import RefusedError
from authpool.verbs.import_formats import sealed_text
from authpool.verbs.import_formats.sealed_text import open_text, seal_text

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number that makes guessing dear is the same in kind."""
    monkeypatch.setattr(sealed_text, "_N", 1 << 10)


def test_sealed_text_is_opened_again() -> None:
    """Nothing of it shows, and twice the same is sealed in two ways."""
    sealed = seal_text("the list", PASSPHRASE)
    assert "the list" not in sealed
    assert seal_text("the list", PASSPHRASE) != sealed
    assert open_text(sealed, lambda: PASSPHRASE) == "the list"


@pytest.mark.parametrize("text", ("", "a,b\n", '{"refresh_token": "authpool_export"}', '{"authpool_export": '))
def test_another_text_is_left_as_it_is(text: str) -> None:
    """Nobody is asked for a passphrase then."""
    assert open_text(text, lambda: pytest.fail("asked")) == text


def test_another_passphrase_opens_nothing() -> None:
    """And nothing tells it from a text that was changed."""
    with pytest.raises(RefusedError, match="another passphrase"):
        open_text(seal_text("the list", PASSPHRASE), lambda: "another one, as long")


@pytest.mark.parametrize(
    "change",
    (
        {"r": 16},
        {"p": 2},
        {"n": 1 << 11},
        {"n": 1 << 30},
        {"n": 3},
        {"n": "1024"},
        {"r": 0},
        {"authpool_export": 2},
        {"kdf": "pbkdf2"},
        {"salt": "AAAA"},
        {"nonce": "!"},
        {"sealed": ""},
        {"sealed": None},
        {"more": 1},
    ),
    ids=str,
)
def test_changed_text_is_refused(change: dict[str, Any]) -> None:
    """Whatever of it is not as it was; one that asks for gigabytes of memory, before it gets them."""
    document = {**json.loads(seal_text("the list", PASSPHRASE)), **change}
    with pytest.raises(RefusedError):
        open_text(json.dumps(document), lambda: PASSPHRASE)
