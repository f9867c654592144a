"""How mitmproxy calls its addons: the same calls in the same order, without the machinery around each addon."""

import itertools
import types
from collections.abc import Callable, Iterable, Iterator
from inspect import isawaitable
from typing import Any

from mitmproxy import addonmanager, hooks
from mitmproxy.exceptions import AddonHalt, AddonManagerError, OptionsError
from mitmproxy.proxy import server_hooks

CLIENT_CONNECTED = server_hooks.ClientConnectedHook.name
type Asked = tuple[Any, Callable[..., Any] | None]
"""An addon that is to be asked for a hook, and the hook itself where that is remembered."""

_known: dict[str, tuple[list[Any], list[Asked]]] = {}
"""By the name of a hook: all addons, and those among them that are to be asked."""
_NONE_BELOW: list[Any] = []
"""Never changed: most addons have no sub-addons."""
stock_trigger_event = addonmanager.AddonManager.trigger_event


async def fast_trigger_event(  # noqa: C901, PLR0912 - one branch for each thing the stock one does
    self: addonmanager.AddonManager, event: hooks.Hook
) -> None:
    """The same calls in the same order as `AddonManager.trigger_event`, without the machinery around each addon.

    Stock mitmproxy visits every addon for every event through a context manager, a coroutine and two generators, and
    nearly all of them have nothing to say: half of a request's time. Here each is asked for the hook and for
    sub-addons, and that is all.

    Of mitmproxy's own addons is remembered which have neither, and the hook of those without sub-addons, for as long
    as there are the same addons, and no longer than until the next client connects. Of all others nothing is
    remembered: whatever is added, removed or reloaded counts at once, as in mitmproxy itself.
    """
    name = event.name
    arguments: list[Any] | None = None  # the same for all, and slow to make
    for top, hook in _addons_to_ask(self.chain, name):
        addon: Any = top
        below: list[Any] = _NONE_BELOW
        try:
            if hook is not None:
                if arguments is None:
                    arguments = event.args()
                result = hook(*arguments)
                if result is not None and isawaitable(result):
                    await result
                continue
            while True:
                function = getattr(addon, name, None)
                if function and _is_handler(function, addon, name):
                    if arguments is None:
                        arguments = event.args()
                    result = function(*arguments)
                    if result is not None and isawaitable(result):
                        await result
                if hasattr(addon, "addons"):  # after the call, which may have set it
                    below = [*below, *reversed([*addon.addons])]
                if not below:
                    break
                addon = below.pop()
        except AddonHalt:
            return
        except OptionsError:
            raise
        except Exception as error:  # noqa: BLE001 - one addon's failure is not the next one's
            _log_addon_error(error)


def _is_handler(function: Any, addon: Any, name: str) -> bool:
    """Whether it can be called; a module that an addon has imported may have the name of a hook."""
    if not callable(function) and not isinstance(function, types.ModuleType):
        raise AddonManagerError(f"Addon handler {name} ({addon}) not callable")
    return callable(function)


def _addons_to_ask(chain: list[Any], name: str) -> Iterable[Asked]:
    if name == CLIENT_CONNECTED:
        _known.clear()
    known = _known.get(name)
    if known is None or known[0] != chain:
        known = _known[name] = ([*chain], [asked for addon in chain for asked in _asked(addon, name)])
    return itertools.chain(known[1], _added(chain, len(known[0])))


def _added(chain: list[Any], count: int) -> Iterator[Asked]:
    """Addons that others add while they are called hear of the same event, as in mitmproxy itself."""
    while count < len(chain):
        yield chain[count], None
        count += 1


def _asked(addon: Any, name: str) -> Iterable[Asked]:
    """An addon, unless it has neither the hook nor sub-addons nor may come by them: others' code may do anything."""
    if not type(addon).__module__.startswith("mitmproxy.") or hasattr(addon, "addons"):
        return ((addon, None),)
    hook = getattr(addon, name, None)
    return ((addon, hook if callable(hook) else None),) if hook else ()


def _log_addon_error(error: Exception) -> None:
    """Log as `addonmanager.safecall` does: the traceback begins in the addon."""
    trace: Any = error.__traceback__
    trace = addonmanager.cut_traceback(trace, fast_trigger_event.__name__)
    addonmanager.logger.error(f"Addon error: {error}", exc_info=(type(error), error, trace))


def dispatch_fast() -> None:
    """Have mitmproxy call its addons in our way."""
    addonmanager.AddonManager.trigger_event = fast_trigger_event  # type: ignore[method-assign]


def dispatch_as_ever() -> None:
    """Have mitmproxy call its addons in its own way."""
    _known.clear()
    addonmanager.AddonManager.trigger_event = stock_trigger_event  # type: ignore[method-assign]
