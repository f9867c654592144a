"""Calling mitmproxy's addons in our way: whatever comes, goes or changes between two events, or during one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mitmproxy import hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.anticache import AntiCache
from mitmproxy.addons.blocklist import BlockList
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.proxy.server_hooks import ClientConnectedHook
from mitmproxy.test import taddons, tflow

from authpool.proxy.wire.dispatch import dispatch_as_ever, fast_trigger_event, stock_trigger_event

TRIGGERS = (fast_trigger_event, stock_trigger_event)


class Says:
    """An addon that says its name when a request comes, and then does something."""

    def __init__(self, name: str, said: list[str], then: Callable[[], Any] = lambda: None, *below: object) -> None:
        self.name, self._said, self._then = name, said, then
        self.addons = list(below)

    def request(self, flow: object) -> Any:
        self._said.append(self.name)
        return self._then()


@pytest.fixture
def addons() -> Iterator[AddonManager]:
    """A master's addons, one of mitmproxy's own among them that has nothing to say to a request."""
    with taddons.context(BlockList()) as context:
        yield context.master.addons
    dispatch_as_ever()


@pytest.mark.parametrize("trigger", TRIGGERS, ids=("fast", "stock"))
async def test_what_comes_and_goes_counts_at_once(addons: AddonManager, trigger: Callable[..., Any]) -> None:
    """Between two events, and for those that are added at the end while the others are called."""
    said: list[str] = []
    last = Says("last", said)
    adds = Says("adds", said, lambda: addons.add(last) if last not in addons.chain else None)
    addons.add(adds, Says("second", said))
    await trigger(addons, HttpRequestHook(tflow.tflow()))
    assert said == ["adds", "second", "last"]
    said.clear()
    addons.remove(adds)
    await trigger(addons, HttpRequestHook(tflow.tflow()))
    assert said == ["second", "last"]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=("fast", "stock"))
async def test_sub_addons_follow_theirs(addons: AddonManager, trigger: Callable[..., Any]) -> None:
    """Depth first; those that the call has added are called; one that fails takes the rest of its branch along."""
    said: list[str] = []

    def fail() -> None:
        raise RuntimeError("on purpose")

    grows = Says("grows", said)
    grows._then = lambda: grows.addons.append(Says("grown", said))
    deep = Says("deep", said, lambda: None, Says("deeper", said), Says("fails", said, fail), Says("not called", said))
    addons.add(Says("top", said, lambda: None, deep, Says("not called either", said)), grows)
    await trigger(addons, HttpRequestHook(tflow.tflow()))
    assert said == ["top", "deep", "deeper", "fails", "grows", "grown"]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=("fast", "stock"))
async def test_an_addon_can_halt_the_rest(addons: AddonManager, trigger: Callable[..., Any]) -> None:
    """As mitmproxy lets it; and what it answers is awaited."""
    said: list[str] = []

    async def halt() -> None:
        said.append("halting")
        raise AddonHalt

    addons.add(Says("halts", said, halt), Says("not called", said))
    await trigger(addons, HttpRequestHook(tflow.tflow()))
    assert said == ["halts", "halting"]


async def test_what_is_remembered_of_mitmproxys_own_lasts_until_a_client_connects(addons: AddonManager) -> None:
    """Nobody gives a hook to one of mitmproxy's addons; if somebody does, that counts before long."""
    said: list[object] = []
    own = AntiCache()
    addons.add(own)
    flow = tflow.tflow()
    await fast_trigger_event(addons, hooks.UpdateHook([flow]))
    own.update = said.append  # type: ignore[attr-defined]
    await fast_trigger_event(addons, ClientConnectedHook(flow.client_conn))
    await fast_trigger_event(addons, hooks.UpdateHook([flow]))
    assert said == [[flow]]


async def test_a_hook_of_mitmproxys_own_that_is_replaced_counts_from_the_next_client_on(addons: AddonManager) -> None:
    """Until then the one that it had is called; what was there before is remembered no longer than that."""
    said: list[object] = []
    own = AntiCache()
    addons.add(own)
    flow = tflow.tflow()
    await fast_trigger_event(addons, HttpRequestHook(flow))
    own.request = said.append  # type: ignore[method-assign]
    await fast_trigger_event(addons, ClientConnectedHook(flow.client_conn))
    await fast_trigger_event(addons, HttpRequestHook(flow))
    assert said == [flow]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=("fast", "stock"))
async def test_what_one_of_mitmproxys_own_raises_keeps_nobody_else_from_it(
    addons: AddonManager, trigger: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next addon is asked."""
    said: list[str] = []
    own = AntiCache()
    own.request = lambda flow: said[0]  # type: ignore[method-assign, assignment, misc]
    addons.add(own, Says("next", said))
    await trigger(addons, HttpRequestHook(tflow.tflow()))
    assert said == ["next"]
    assert "Addon error: list index out of range" in caplog.text
