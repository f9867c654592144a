"""Who is let in: keys of every kind, limits, wrong keys, and changes meanwhile."""

from typing import Any

import pytest

from authpool.clients.client import BrokenClient, GatewayClient, IssuedKey
from authpool.clients.gatekeeper import Gatekeeper
from authpool.clients.key import NewKey, new_key
from authpool.clients.keyring import Denial, Grant, Keyring
from authpool.clients.presented import NOTHING, OTHER, Presented
from authpool.clients.wrong_keys import ADDRESSES, WINDOW_SECONDS, WRONG_KEYS, WrongKeys
from support.clock import FakeClock

KEY = new_key()


def issued(key: NewKey, **more: Any) -> IssuedKey:
    return IssuedKey(id=key.id, sha256=key.sha256, **more)


def client(name: str = "ci", *keys: IssuedKey, **more: Any) -> GatewayClient:
    return GatewayClient(name=name, keys=keys or (issued(KEY),), **more)


def shown(text: str = KEY.text, scheme: str = "Bearer ") -> Presented:
    return Presented(values=(f"{scheme}{text}".encode(),))


def keeper(clock: FakeClock, *clients: GatewayClient | BrokenClient) -> Gatekeeper:
    gatekeeper = Gatekeeper(clock)
    gatekeeper.replace(Keyring(clients))
    return gatekeeper


def granted(gatekeeper: Gatekeeper) -> Grant:
    grant = gatekeeper.identify(shown(), "192.0.2.1")
    assert isinstance(grant, Grant)
    return grant


def denied(gatekeeper: Gatekeeper, presented: Presented, held: Grant | None = None) -> Denial:
    denial = gatekeeper.identify(presented, "192.0.2.1", held)
    assert isinstance(denial, Denial)
    return denial


def admit(gatekeeper: Gatekeeper, grant: Grant) -> Denial | None:
    return gatekeeper.admit(grant, "google", "https", "api.test", 443)


def test_a_key_is_known_again(clock: FakeClock) -> None:
    """By sight as well."""
    gatekeeper = keeper(clock, client())
    assert granted(gatekeeper) is granted(gatekeeper)
    assert granted(gatekeeper).name == "ci"


def test_of_two_keys_the_first_counts_whichever_was_seen_before(clock: FakeClock) -> None:
    """Else its limits and its usage would be those of another client, by chance."""
    other = new_key()
    gatekeeper = keeper(clock, client(), client("other", issued(other)))
    assert granted(gatekeeper).name == "ci"
    both = Presented(values=(f"Bearer {other.text}".encode(), *shown().values))
    for _ in range(2):
        grant = gatekeeper.identify(both, "192.0.2.1")
        assert isinstance(grant, Grant)
        assert grant.name == "other"


def test_each_reason_is_told_to_who_has_the_right_secret(clock: FakeClock) -> None:
    """Expired, rotated out, removed; to anybody else the key is unknown, or mistyped."""
    now = int(clock.time())
    old, wrong = new_key(), new_key()
    live = client("ci", issued(old, ends_at=now, ending="rotated"), issued(KEY))
    expected = {
        "expired": (keeper(clock, client(expires_at=now)), KEY.text),
        "rotated out": (keeper(clock, live), old.text),
        "removed": (keeper(clock, client().with_removed(now)), KEY.text),
        "unknown": (keeper(clock, client()), wrong.text),
        "mistyped": (keeper(clock, client()), KEY.text[:-1]),
    }
    for word, (gatekeeper, text) in expected.items():
        denial = denied(gatekeeper, shown(text))
        assert (denial.code, word in denial.detail) == ("client_key_required", True), word
        assert (denial.client == "ci") is (word in {"expired", "rotated out", "removed"})
        assert "ci" not in denial.detail.split()
    same_id = KEY.text.replace(KEY.text.split("_")[2], wrong.text.split("_")[2])
    for text in (same_id, wrong.text):
        assert denied(keeper(clock, client(expires_at=now)), shown(text)).client == ""


async def test_an_expiry_is_exact_also_for_a_key_known_by_sight(clock: FakeClock) -> None:
    """Good until right before, and not from then on."""
    gatekeeper = keeper(clock, client(expires_at=int(clock.time()) + 10))
    grant = granted(gatekeeper)
    await clock.advance(10 - clock.time() % 1 - 0.001)
    assert granted(gatekeeper)
    assert gatekeeper.holds(grant)
    await clock.advance(0.001)
    assert "expired" in denied(gatekeeper, shown()).detail
    assert "expired" in denied(gatekeeper, NOTHING, grant).detail
    assert not gatekeeper.holds(grant)


def test_what_a_connection_has_shown_counts_where_a_request_shows_nothing(clock: FakeClock) -> None:
    """With the client as it is now; a key of the request's own comes first, a wrong one too."""
    gatekeeper = keeper(clock, client())
    held = granted(gatekeeper)
    changed = client(max_in_flight=1)
    gatekeeper.replace(Keyring((changed,)))
    found = gatekeeper.identify(OTHER, "192.0.2.1", held)
    assert isinstance(found, Grant)
    assert found.client == changed
    assert "mistyped" in denied(gatekeeper, shown("authpool_x"), held).detail
    gatekeeper.replace(Keyring((client("other", issued(new_key())),)))
    assert "no longer good" in denied(gatekeeper, NOTHING, held).detail


def test_a_broken_record_and_a_shared_key_let_nobody_in(clock: FakeClock) -> None:
    """And keys are asked for all the same, as where the clients could not be read, or all are gone."""
    shared = keeper(clock, client("a"), client("b"))
    assert denied(shared, shown()).guess
    assert shared.keyring.doubles == {"a", "b"}
    for ring in (
        Keyring((BrokenClient(name="ci", reason=""),)),
        Keyring(known=False),
        Keyring((client().with_removed(1),)),
    ):
        assert ring.anybody
    assert not Keyring().anybody


def test_limits_refuse_and_survive_a_rotation(clock: FakeClock) -> None:
    """Requests under way, by client and not by key; what a client has used is what counts, whoever changes its keys."""
    gatekeeper = keeper(clock, client(max_in_flight=2))
    grant = granted(gatekeeper)
    assert [admit(gatekeeper, grant) for _ in range(2)] == [None, None]
    rotated = client(max_in_flight=2).with_rotated(issued(new_key()), clock.time(), overlap_seconds=60, leaked=False)
    gatekeeper.replace(Keyring((rotated,)))
    denial = admit(gatekeeper, granted(gatekeeper))
    assert denial is not None
    assert (denial.code, denial.retry_after_seconds) == ("client_limited", 1)
    gatekeeper.leave("ci")
    assert admit(gatekeeper, granted(gatekeeper)) is None
    assert gatekeeper.usage.peek()["ci"].requests == 3
    assert gatekeeper.usage.peek()["ci"].refused == 1


async def test_a_rate_is_refilled_with_time(clock: FakeClock) -> None:
    """As many at once as a second has, and then one for each part of it."""
    gatekeeper = keeper(clock, client(requests_per_second=2))
    grant = granted(gatekeeper)
    assert [admit(gatekeeper, grant) is None for _ in range(3)] == [True, True, False]
    await clock.advance(0.5)
    assert [admit(gatekeeper, grant) is None for _ in range(2)] == [True, False]
    slow = keeper(clock, client(requests_per_second=0.1))
    assert admit(slow, granted(slow)) is None
    denial = admit(slow, granted(slow))
    assert denial is not None
    assert denial.retry_after_seconds == 10


def test_what_is_out_of_scope_is_refused_and_takes_nothing_of_the_limit(clock: FakeClock) -> None:
    """The key is good, but not for this."""
    gatekeeper = keeper(clock, client(pools=("other",), max_in_flight=1))
    denial = admit(gatekeeper, granted(gatekeeper))
    assert denial is not None
    assert denial.code == "client_not_allowed"
    assert gatekeeper.in_flight("ci") == 0


async def test_wrong_keys_are_limited_by_address_and_good_ones_are_not(clock: FakeClock) -> None:
    """Whoever guesses is told less and less; who has a key comes through, from the same address too."""
    gatekeeper = keeper(clock, client())
    codes = [denied(gatekeeper, shown(f"authpool_{number}")).code for number in range(WRONG_KEYS + 1)]
    assert codes == ["client_key_required"] * WRONG_KEYS + ["client_limited"]
    assert granted(gatekeeper)
    assert denied(gatekeeper, NOTHING).code == "client_key_required"
    await clock.advance(WINDOW_SECONDS)
    assert denied(gatekeeper, OTHER).code == "client_key_required"


def test_what_is_remembered_of_wrong_keys_is_bounded() -> None:
    """However many addresses there are; of IPv6 a machine has a whole network."""
    wrong = WrongKeys()
    for number in range(ADDRESSES + 100):
        wrong.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(wrong._counts) == ADDRESSES
    told = [wrong.note(f"2001:db8::{number:x}", 0.0) for number in range(WRONG_KEYS + 1)]
    assert told[-1] == WINDOW_SECONDS
    assert wrong.note("2001:db8:0:1::1", 0.0) is None


@pytest.mark.parametrize("known", (True, False))
def test_nothing_is_let_in_before_the_clients_were_read(clock: FakeClock, *, known: bool) -> None:
    """Whatever is shown."""
    gatekeeper = Gatekeeper(clock)
    if known:
        gatekeeper.replace(Keyring())
    assert gatekeeper.keyring.anybody is not known
    assert denied(gatekeeper, shown()).code == "client_key_required"
