"""What comes from elsewhere moves no cursor and turns no writing around, wherever it is shown."""

import pytest

from authpool.accounts.document import account_from_document
from authpool.accounts.name import check_name, decode_name
from authpool.accounts.printable import is_printable, printable
from authpool.errors import RefusedError
from authpool.oauth.error_code import description_of
from authpool.oauth.identity import Identity
from authpool.pool.pool import State
from authpool.store.audit import Entry, Process
from authpool.store.folder.file_index import shown_name
from authpool.verbs.account_rows import AccountRow
from authpool.verbs.account_table import account_cells
from authpool.verbs.history import history_cells
from authpool.verbs.naming import Naming
from authpool.verbs.sources import Credential
from support.memory_store import MemoryStore, Tables

ODD = (
    "\x1b]0;owned\x07",
    "a\rb",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x",
    "a\u200bb",
    "a\u2028b",
    "\ufeffa",
    "\U000e0041",
)


@pytest.mark.parametrize("text", ODD)
def test_no_terminal_is_told_anything(text: str) -> None:
    """Escape sequences, line ends, bidirectional controls, and what can't be seen."""
    assert not is_printable(text)
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


@pytest.mark.parametrize("text", ("Zoë", "中文 名", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "a\u200db"))
def test_every_writing_is_shown_as_it_is(text: str) -> None:
    """Joiners are part of how some of them are spelt."""
    assert printable(text) is text
    check_name(text.replace(" ", "_"))


@pytest.mark.parametrize("name", ODD)
def test_no_account_is_called_so(name: str) -> None:
    """A provider tells names: its `email` may be anything."""
    with pytest.raises(RefusedError) as refused:
        check_name(name)
    assert str(refused.value).isprintable()
    encoded = "".join(f"%{byte:02X}" for byte in name.encode())
    with pytest.raises(ValueError, match="file name") as told:
        decode_name(encoded)
    assert str(told.value).isprintable()


@pytest.mark.parametrize("text", ODD)
def test_wherever_it_is_shown(text: str) -> None:
    """A provider's description, a file that people write in, the table of accounts, the trail, a file's own name."""
    assert description_of({"error_description": text}).isprintable()
    assert description_of({"error": {"message": text}}).isprintable()
    account = account_from_document("p", "a", {"disabled_reason": text, "proxy_disabled_reason": text})
    assert str(account.disabled_reason).isprintable()
    assert str(account.proxy_disabled_reason).isprintable()
    unknown = dict.fromkeys(("since", "until", "expires_at", "served"))
    row = AccountRow(pool="p", name=text, state=State.DISABLED, reason=text, **unknown)
    assert "".join(account_cells(row)).isprintable()
    assert shown_name(f"{text}.toml").isprintable()
    process = Process(kind=text, pid=1)
    entry = Entry(time=1, event=text, account=f"p/{text}", process=process, reason=text, fingerprint=None, generation=1)
    assert "".join(history_cells(entry)).isprintable()


@pytest.mark.parametrize("text", ODD)
async def test_a_refusal_repeats_nobody_else_either(text: str) -> None:
    """Neither the name that a source claims nor the one that the provider tells."""
    naming = Naming(MemoryStore(Tables()), "p")
    with pytest.raises(RefusedError) as claimed:
        await naming.expected(Credential(name=text), "bob")
    with pytest.raises(RefusedError) as told:
        await naming.decided(Identity(name=text), Credential(), "bob")
    with pytest.raises(RefusedError) as both:
        await naming.decided(Identity(name="alice"), Credential(name=text), None)
    assert all(str(refused.value).isprintable() for refused in (claimed, told, both))
