"""How mitmproxy calls its addons: the same calls in the same order, without the machinery around each addon."""

import inspect
import types
from typing import Any

from mitmproxy import addonmanager, hooks
from mitmproxy.exceptions import AddonHalt, AddonManagerError, OptionsError

_NONE_BELOW: list[Any] = []
"""Never changed: most addons have no sub-addons."""
stock_trigger_event = addonmanager.AddonManager.trigger_event


async def fast_trigger_event(  # noqa: C901 - one branch for each thing the stock one does
    self: addonmanager.AddonManager, event: hooks.Hook
) -> None:
    """The same calls in the same order as `AddonManager.trigger_event`, without the machinery around each addon.

    Stock mitmproxy visits every addon for every event through a context manager, a coroutine and two generators, and
    nearly all of them have nothing to say: half of a request's time. Here each is asked for the hook and for
    sub-addons, and that is all. Nothing is remembered between events, so whatever is added, removed or reloaded
    counts at once, as in mitmproxy itself.
    """
    name = event.name
    arguments: list[Any] | None = None  # the same for all, and slow to make
    for top in self.chain:
        addon: Any = top
        below: list[Any] = _NONE_BELOW
        try:
            while True:
                function = getattr(addon, name, None)
                if function and callable(function):
                    if arguments is None:
                        arguments = event.args()
                    result = function(*arguments)
                    if result is not None and inspect.isawaitable(result):
                        await result
                elif function and not isinstance(function, types.ModuleType):
                    raise AddonManagerError(f"Addon handler {name} ({addon}) not callable")  # noqa: TRY301
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
    addonmanager.AddonManager.trigger_event = stock_trigger_event  # type: ignore[method-assign]
