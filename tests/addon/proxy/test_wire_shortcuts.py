"""Lookups that mitmproxy makes for every request: quicker, and with mitmproxy's own answers."""

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import hooks, options
from mitmproxy.http import Headers
from mitmproxy.net.http import url
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.proxy.server import TimeoutWatchdog
from mitmproxy.test import tflow
from mitmproxy.utils import asyncio_utils

from authpool.proxy.wire import shortcuts

NAMES = st.sampled_from(("Host", "host", "X-Ä", "x-ä", "X-Rate", "K", "\u212a", ""))
FIELDS = st.lists(st.tuples(NAMES.map(lambda name: name.encode()) | st.binary(max_size=4), st.binary(max_size=4)))
AUTHORITIES = (
    "example.com",
    "example.com:443",
    b"xn--bcher-kva.example:80",
    "[::1]:8080",
    "a:b:c",
    "a:99999",
    "",
    "ä",
    b"\xff",
    "x" * 400,
)


@contextmanager
def taken() -> Iterator[None]:
    shortcuts.take()
    try:
        yield
    finally:
        shortcuts.take_none()


def said(ask: Callable[[], Any]) -> Any:
    """The answer, or the exception."""
    try:
        return ask()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return type(error), str(error)


class Derived(Headers):
    """A kind of headers that answers in its own way."""

    def get_all(self, name: str | bytes) -> list[str]:
        return ["derived", *super().get_all(name)]


@given(fields=FIELDS, name=NAMES | NAMES.map(str.encode) | st.none(), kind=st.sampled_from((Headers, Derived)))
def test_headers_say_what_they_ever_said(fields: list[tuple[bytes, bytes]], name: Any, kind: type[Headers]) -> None:
    """Case, repeated fields, bytes that are no UTF-8, names that are bytes, classes derived from mitmproxy's."""
    headers = kind(fields)
    asks: tuple[Callable[[], Any], ...] = (
        lambda: headers.get(name),
        lambda: headers.get(name, "none"),
        lambda: headers[name],
        lambda: name in headers,
    )
    stock = [said(ask) for ask in asks]
    with taken():
        assert [said(ask) for ask in asks] == stock


@given(
    first=FIELDS,
    then=FIELDS,
    name=NAMES,
    how=st.sampled_from(("fields", "set", "delete", "add", "clear", "a list", "copy")),
)
def test_headers_that_change_say_what_they_have_now(
    first: list[tuple[bytes, bytes]], then: list[tuple[bytes, bytes]], name: str, how: str
) -> None:
    """By whatever way they are changed, also in place; and what a copy has is its own."""
    headers, is_there = Headers(first), name in Headers(first)
    with taken():
        assert (name in headers) is is_there
        match how:
            case "fields":
                headers.fields = tuple(then)
            case "set":
                headers["Host"] = "x"
            case "delete":
                headers.pop("Host", None)
            case "add":
                headers.add("Host", "x")
            case "clear":
                headers.clear()
            case "a list":
                changing: Any = [*first]
                headers.fields = changing
                assert headers.get(name, "") == Headers(first).get(name, "")
                changing[:] = then
            case _:
                headers = headers.copy()
                headers.fields = tuple(then)
        now = Headers(headers.fields)
        answers = (headers.get(name), name in headers)
    assert answers == (now.get(name), name in now)


@pytest.mark.parametrize("check", (True, False))
@pytest.mark.parametrize("authority", AUTHORITIES, ids=range(len(AUTHORITIES)))
def test_authorities_mean_what_they_ever_meant(authority: str | bytes, *, check: bool) -> None:
    """Asked twice, for the second answer is a remembered one; an error is one each time."""
    stock = said(lambda: url.parse_authority(authority, check))
    with taken():
        assert [said(lambda: url.parse_authority(authority, check=check)) for _ in range(2)] == [stock, stock]


def test_an_option_that_can_be_changed_is_a_copy() -> None:
    """Whoever changes the list that an option was must not change the option."""
    stock = options.Options()
    with taken():
        stock.mode.append("reverse:http://127.0.0.1:9")
        assert stock.mode == ["regular"]
        stock.mode = ["upstream:http://127.0.0.1:9"]
        stock.mode.clear()
        assert stock.mode == ["upstream:http://127.0.0.1:9"]
        stock.http2 = not stock.http2
        assert (stock.http2, stock.listen_host) == (False, "")


def test_hooks_have_their_arguments() -> None:
    """Of each hook its own, in order."""
    flow = tflow.tflow()
    with taken():
        assert HttpRequestHook(flow).args() == [flow]
        assert hooks.UpdateHook([flow]).args() == [[flow]]
        assert hooks.DoneHook().args() == []


def test_mitmproxy_is_left_as_it_was() -> None:
    """What was inherited is so again."""
    places = {(owner, name): vars(owner).get(name) for owner, name, _ in shortcuts._SHORTCUTS}
    with taken():
        assert all(vars(owner)[name] is ours for owner, name, ours in shortcuts._SHORTCUTS)
    assert {(owner, name): vars(owner).get(name) for owner, name in places} == places


def test_hooks_are_made_and_refused_as_ever() -> None:
    """The base of all hooks can't be made, nor can one that is no dataclass; others have their arguments."""
    flow = tflow.tflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        class NoHook(hooks.Hook):
            name = "authpool_no_dataclass"

    try:
        asks: tuple[Callable[[], Any], ...] = (hooks.Hook, NoHook, HttpRequestHook)
        stock = [said(ask) for ask in asks]
        with taken():
            assert [said(ask) for ask in asks] == stock
            assert HttpRequestHook(flow).args() == [flow]
            assert type(HttpRequestHook(flow)) is HttpRequestHook
    finally:
        hooks.all_hooks.pop(NoHook.name, None)


async def test_a_connection_with_a_hook_under_way_does_not_time_out() -> None:
    """Hooks may overlap; the watchdog watches again, from now on, when the last of them is over."""

    async def nothing() -> None:
        """Never called."""

    async def watch() -> list[tuple[bool, int]]:
        watchdog, seen = TimeoutWatchdog(60, nothing), []
        with suppress(ValueError), watchdog.disarm():
            with watchdog.disarm():
                seen.append((watchdog.can_timeout.is_set(), watchdog.blocker))
            seen.append((watchdog.can_timeout.is_set(), watchdog.blocker))
            watchdog.last_activity = 0
            raise ValueError
        return [*seen, (watchdog.can_timeout.is_set(), watchdog.blocker), (watchdog.last_activity > 0, 0)]

    stock = await watch()
    with taken():
        assert await watch() == stock


@pytest.mark.parametrize("in_a_test", (True, False))
async def test_tasks_are_named_as_ever(monkeypatch: pytest.MonkeyPatch, *, in_a_test: bool) -> None:
    """Task, client and time are what a log of a task that never ended needs; in a test, the test too."""
    if not in_a_test:
        monkeypatch.delenv(shortcuts.IN_A_TEST)

    async def told() -> tuple[object, ...]:
        task = asyncio_utils.create_task(asyncio.sleep(0), name="a task", keep_ref=True, client=("192.0.2.1", 1))
        await task
        told: Any = task
        return task.get_name(), told.client, type(told.created)

    stock = await told()
    with taken():
        assert await told() == stock
    assert asyncio_utils.set_task_debug_info.__module__ == asyncio_utils.__name__
