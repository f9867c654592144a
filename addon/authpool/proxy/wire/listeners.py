"""mitmproxy begins to listen before it has loaded a script; here that is put off until the script has said where.

It reads `listen_host` and looks up the addresses in a thread; the script is loaded in the next turn of the event loop,
before that look-up can be answered. So nothing is bound yet, and the start can be taken back.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver, Servers
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_servers import AsyncioServerInstance
from mitmproxy.utils import asyncio_utils

SETUP = "setup_servers"
"""What mitmproxy calls the task that starts its listeners."""


def take_back_start() -> bool:
    """Stop a start of listeners that has bound nothing yet; whether there was one."""
    server = _proxyserver()
    if server is None or not all(_can_be_taken_back(instance) for instance in server.servers):
        return False
    starts = list(_starts())
    for start in starts:
        start.cancel()
    if starts:
        server.servers._instances.clear()  # noqa: SLF001 - it would take them for listeners that have been started
    return bool(starts)


def start() -> asyncio.Task[Any] | None:
    """Start the listeners now, as mitmproxy does; what fails is in its log."""
    server = _proxyserver()
    if server is None:
        return None
    return asyncio_utils.create_task(server.setup_servers(), name=SETUP, keep_ref=True)


def addresses() -> list[tuple[str, str]]:
    """The addresses that mitmproxy listens on, each with the one that its mode and the options ask for."""
    server = _proxyserver()
    return [
        (str(address[0]), instance.mode.listen_host(ctx.options.listen_host))
        for instance in (() if server is None else server.servers)
        for address in instance.listen_addrs
    ]


def missing() -> list[str]:
    """What of all this mitmproxy has no more."""
    known = {"servers._instances": hasattr(Servers, "update") and "_instances" in Servers.update.__code__.co_names}
    known["setup_servers"] = hasattr(Proxyserver, "setup_servers")
    return [f"Proxyserver.{name}" for name, there in known.items() if not there]


def _can_be_taken_back(instance: object) -> bool:
    """Whether its address is looked up first, and nothing is bound before that is answered."""
    plain = isinstance(instance, AsyncioServerInstance) and not isinstance(instance.mode, mode_specs.WireGuardMode)
    return plain and not instance.is_running and not instance.mode.listen_host(ctx.options.listen_host)  # type: ignore[attr-defined]


def _starts() -> Iterator[asyncio.Task[Any]]:
    return (task for task in asyncio.all_tasks() if task.get_name().split(" ", 1)[0] == SETUP and not task.done())


def _proxyserver() -> Any:
    return ctx.master.addons.get("proxyserver")
