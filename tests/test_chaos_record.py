"""The judge of the chaos tests sees what must not happen, and nothing in what may."""

from collections.abc import Sequence
from typing import Any

import pytest

from support.chaos_record import Call, Loss, Outage, Record, RefusedVerb
from support.tcp_shim import Exchange, Fate

TOKEN = "c0ffee00"
EVERYBODY_READY = [(at / 10, frozenset({"alice"})) for at in range(400)]


def call(status: int | None, code: str | None = None, *, begun_at: float = 20.0) -> Call:
    return Call(gateway=0, begun_at=begun_at, ended_at=begun_at + 0.1, status=status, code=code)


def killed(at: float) -> Outage:
    return Outage(gateway=0, killed=True, begun_at=at, dead_at=at + 0.1, ended_at=at + 1)


def asked(at: float, fate: Fate = Fate.PASS, status: int = 200) -> Exchange:
    return Exchange(fate=fate, begun_at=at, token=TOKEN, status=status)


def loss(reason: str = "rotation_lost: an answer never reached us, then invalid_grant") -> Loss:
    return Loss(account="alice", reason=reason, token=TOKEN)


def refused(verb: str, output: str = "Error: no", token: str | None = None) -> RefusedVerb:
    return RefusedVerb(verb=verb, output=output, token=token)


REJECTED = asked(22, status=400)

WRONG: dict[str, tuple[dict[str, Any], Sequence[Exchange]]] = {
    "an upstream's 401": ({"calls": [call(401)]}, []),
    "an upstream's 401, through a gateway that ends": ({"calls": [call(401)], "outages": [killed(20)]}, []),
    "no answer": ({"calls": [call(None)]}, []),
    "a gateway's error": ({"calls": [call(500, "gateway_error")]}, []),
    "a code that has no place here": ({"calls": [call(403, "client_not_allowed")]}, []),
    "documented answers while somebody could serve": (
        {"calls": [call(503, "pool_exhausted"), call(503, "pool_exhausted", begun_at=20.2)], "ready": EVERYBODY_READY},
        [],
    ),
    "a verdict without a loss": ({"losses": {loss()}}, [asked(20, status=400)]),
    "a verdict after an answer that arrived": ({"losses": {loss()}}, [asked(20), REJECTED]),
    "a loss blamed on the provider": ({"losses": {loss("invalid_grant")}}, [asked(20, Fate.DROP), REJECTED]),
    "a spent token, presented again": ({}, [asked(20), asked(22)]),
    "a spent token, presented again after the kill": ({"outages": [killed(19)]}, [asked(20), asked(22)]),
    "a spent token, presented again before the kill": ({"outages": [killed(23)]}, [asked(20), asked(22)]),
    "a switch that did not work": ({"refusals": [refused("pause")]}, []),
    "a traceback": ({"refusals": [refused("refresh", "Traceback (most recent call last)")]}, []),
    "an account not taken though its answer arrived": ({"refusals": [refused("add", token=TOKEN)]}, [asked(20)]),
}

RIGHT: dict[str, tuple[dict[str, Any], Sequence[Exchange]]] = {
    "an answer": ({"calls": [call(200)]}, []),
    "a documented answer while nobody is ready": ({"calls": [call(503, "pool_exhausted")]}, []),
    "a documented answer, once, while somebody could almost serve": (
        {"calls": [call(503, "pool_exhausted"), call(200, begun_at=20.2)], "ready": EVERYBODY_READY},
        [],
    ),
    "no answer from a gateway that is ended": ({"calls": [call(None)], "outages": [killed(20)]}, []),
    "an error of a gateway that is ended": ({"calls": [call(500, "gateway_error")], "outages": [killed(20)]}, []),
    "a verdict after an answer the shim dropped": ({"losses": {loss()}}, [asked(20, Fate.DROP), REJECTED]),
    "a verdict after a kill": ({"losses": {loss()}, "outages": [killed(21)]}, [asked(20), REJECTED]),
    "a token presented again after its answer got lost": ({}, [asked(20, Fate.CUT), asked(20.3)]),
    "a token presented again that was never spent": ({}, [asked(20, Fate.REFUSE, status=502), asked(22)]),
    "an account not taken because its answer got lost": (
        {"refusals": [refused("add", token=TOKEN)]},
        [asked(20, Fate.RESET)],
    ),
    "a refresh that failed": ({"refusals": [refused("refresh")]}, []),
}


def record_of(what: dict[str, Any]) -> Record:
    return Record(**{"ready": [(0.0, frozenset()), (100.0, frozenset())]} | what)


@pytest.mark.parametrize("name", WRONG)
def test_what_must_not_happen_is_told(name: str) -> None:
    """One line for each thing that is wrong."""
    what, exchanges = WRONG[name]
    assert record_of(what).wrong(exchanges)


@pytest.mark.parametrize("name", RIGHT)
def test_what_may_happen_is_not_held_against_anybody(name: str) -> None:
    """Otherwise a busy machine would be told from a fault by luck."""
    what, exchanges = RIGHT[name]
    assert record_of(what).wrong(exchanges) == []
