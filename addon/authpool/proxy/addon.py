"""The mitmproxy addon: the gateway's life, and mitmproxy's events translated into calls of the rest."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Coroutine
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

import authpool
from authpool.config import Config
from authpool.errors import AuthpoolError, mistakes_placed
from authpool.files.home import check_home, home_folder, home_of_loader
from authpool.files.process_memory import forbid_core_dumps
from authpool.gateway.presence import Presence
from authpool.gateway.service import Service
from authpool.proxy import listener_rules, option_warnings, wire
from authpool.proxy.client_hooks import ClientHooks
from authpool.proxy.connection_hooks import ConnectionHooks
from authpool.proxy.flow_hooks import FlowHooks
from authpool.proxy.gate import gateway_error
from authpool.proxy.hangup import Hangup
from authpool.proxy.options import add_options, check_options
from authpool.proxy.terminal import Terminal
from authpool.proxy.traffic import Traffic
from authpool.proxy.under_way import UnderWay
from authpool.proxy.wire import listeners
from authpool.requests.access_log import AccessLog

logger = logging.getLogger(__name__)

START_SECONDS = 30.0
"""So long a request waits for the accounts to be loaded."""


class Gateway(ClientHooks, FlowHooks, ConnectionHooks):
    """Puts credentials from a pool on requests. State is in the service; this class only translates."""

    name = "authpool"

    def __init__(self, loader: str | None = None) -> None:
        """`loader` is the script that was given to mitmproxy; one that lies in a home is for that home."""
        super().__init__()
        self.service: Service | None = None
        self.under_way = UnderWay()
        self._weak_options = option_warnings.OptionWarnings()
        self._access_log = AccessLog()
        self._terminal = Terminal()
        self._own_home = home_of_loader(loader)
        self._home = ""
        self._plugins: tuple[str, ...] = ()
        self._configured = False
        self._mistake = ""
        self._presence: Presence | None = None
        self._hangup = Hangup(self.reload_soon, self._end)
        self._listening: asyncio.Task[Any] | None = None
        self._starting: asyncio.Future[bool] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._start_put_off = False
        self._defaulting = False
        self._started = asyncio.Event()
        self._serving = False
        self._reload_wanted = False
        self._force_wanted = False
        self._stopping = False

    def load(self, loader: Loader) -> None:
        wire.close(gateway_error)  # whatever fails from here on, nothing goes out without a gate
        forbid_core_dumps()
        self._hangup.watch()
        self._start_put_off = listeners.take_back_start()
        add_options(loader, self._own_home)

    def configure(self, updated: AbstractSet[str]) -> None:
        self._configured = True
        if self._stopping or self._defaulting:
            return
        try:
            check_options()
            if self.service is None:
                self._build()
            elif ctx.options.authpool_home != self._home:
                raise exceptions.OptionsError("authpool: the home can't change while the gateway runs: start anew")
            elif tuple(ctx.options.authpool_plugins) != self._plugins:
                raise exceptions.OptionsError("authpool: the plugins can't change while the gateway runs: start anew")
            elif {"mode", "listen_host", "authpool_home"} & set(updated):
                self._check_listeners(self.service)
            self._access_log.form = ctx.options.authpool_access_log
            if "termlog_verbosity" in updated:  # an option of those tools alone that print their log
                self._terminal.configure(ctx.options.termlog_verbosity)
            if self.service is not None and option_warnings.OPTIONS & set(updated):
                self._weak_options.warn(self.service.snapshot.config)
        except AuthpoolError as error:
            if self.service is not None:
                raise exceptions.OptionsError(f"authpool: {error}") from error
            self._refuse_to_start(error)

    def running(self) -> Awaitable[bool]:
        # A plain function that returns an awaitable works both at start and when the script is reloaded.
        if not self._configured:  # added to a master by a program; the tools and scripts configure first
            self.configure(set(ctx.options.keys()))
        allowed = True
        if self.service is not None:
            try:
                self._check_listeners(self.service)
            except AuthpoolError as error:
                allowed = False
                self._refuse_to_start(error)
        self._starting = asyncio.ensure_future(self._start(allowed=allowed))
        return self._starting

    def done(self) -> Awaitable[None]:
        self._stopping = True
        self._hangup.forget()
        if self._traffic is not None:
            wire.remove(self._traffic.gate)
        return asyncio.ensure_future(self._stop(ending=ctx.master.should_exit.is_set()))

    # --- life -------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        for name in ("httpx", "httpcore", "hpack", "filelock"):  # they log URLs and headers; or each lock, twice
            logging.getLogger(name).setLevel(logging.WARNING)
        defaulted = self._listen_on_loopback_by_default()
        self._home = ctx.options.authpool_home
        self._plugins = tuple(ctx.options.authpool_plugins)
        home = home_folder(self._home or None, os.environ)
        if home.is_dir():  # a mistyped home is an error, not a new folder
            check_home(home)
        presence = Presence(home)
        with mistakes_placed(home):
            service = Service(
                home,
                os.environ,
                applied=self._applied,
                reloaded=presence.tell,
                plugins=self._plugins,
            )
            traffic = Traffic(service, self._access_log.observe, self._access_log.is_on)
            config = service.snapshot.config
            wire.install(traffic.gate, traffic.reach, gateway_error, fast_dispatch=config.gateway.fast_dispatch)
        self.service, self._traffic, self._presence = service, traffic, presence
        logger.info("authpool %s: the home is %s", authpool.__version__, home)
        other = os.environ.get("AUTHPOOL_HOME")
        if other and self._home == self._own_home != "" and Path(other).resolve() != home:
            logger.warning("authpool: AUTHPOOL_HOME (%s) does not count: the loader is the one of %s", other, home)
        listener_rules.warn_of_open_listeners(config)
        if self._start_put_off:
            self._start_put_off = False
            self._listening = listeners.start()
        elif defaulted:
            listener_rules.close_open_sockets()

    def _refuse_to_start(self, error: AuthpoolError) -> None:
        """Say once, in a line, why there is no gateway; mitmproxy ends when an error is logged while it starts.

        An exception would be logged with its traceback, and for each time that options are set.
        """
        if str(error) != self._mistake:
            self._mistake = str(error)
            logger.error("authpool: %s", error)

    async def _start(self, *, allowed: bool) -> bool:
        if self._listening is not None:
            await asyncio.wait({self._listening})  # what fails is logged, and mitmproxy ends while it starts
        try:
            if allowed and self.service is not None and not self._stopping:
                await self.service.start()
                self._serving = not self._stopping
                self._tell_of_missing_clients(self.service)
        except AuthpoolError as error:
            logger.error("authpool can't start: %s", error)
        finally:
            self._started.set()
        if self._serving and self._reload_wanted:
            self.reload_soon(forced=self._force_wanted)
        return self._serving

    async def until_started(self) -> bool:
        """Wait until the accounts are loaded; whether they are."""
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._started.wait()
        except TimeoutError:
            logger.error("authpool: the accounts are not loaded after %g s; requests are refused", START_SECONDS)
        return self._serving

    async def _stop(self, *, ending: bool) -> None:
        if ending:
            ctx.options.update(server=False)  # whoever comes now finds nobody listening, rather than an error
        try:
            await self._close()
        finally:
            self._terminal.close()
        if ending:
            self._hangup.give_back()

    def _close(self) -> Awaitable[None]:
        """End what runs, once, whoever asks for it."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._close_service())
        return self._ending

    async def _close_service(self) -> None:
        if self._presence is not None:
            self._presence.end()
        if self._starting is not None:
            await asyncio.wait({self._starting}, timeout=START_SECONDS)
        self._started.set()  # whoever waits for it is refused
        if self.service is not None:
            await self.service.stop(self.under_way.land)

    def _end(self) -> Coroutine[Any, Any, None]:
        """The terminal is gone, and nobody is there to see what is shown in it: end as if told to."""
        self._stopping = True
        if self._presence is not None:  # at once: the console may fail over its screen any moment now
            self._presence.end()
        return self._close_and_shut_down()

    async def _close_and_shut_down(self) -> None:
        await self._close()  # first: the console fails to end its screen, and then nothing is awaited any more
        ctx.master.shutdown()

    def reload_soon(self, *, forced: bool = False) -> None:
        """Reload, as `Service.reload`, and say in the log what came of it; once the accounts are loaded."""
        if self._stopping or not self._serving:
            self._reload_wanted, self._force_wanted = True, self._force_wanted or forced
            return
        self.under_way.begin(self._reload(forced=forced), "authpool reload")

    async def _reload(self, *, forced: bool) -> None:
        if self.service is None:
            return
        try:
            await self.service.reload(forced=forced)
        except AuthpoolError as error:
            logger.error("authpool: %s The old configuration stays in force.", error)
        except Exception:
            logger.exception("authpool: a reload failed. The old configuration stays in force")

    def _applied(self, config: Config) -> None:
        wire.dispatch(fast=config.gateway.fast_dispatch)
        listener_rules.warn_of_open_listeners(config)
        self._weak_options.warn(config)
        if self.service is not None:
            self._tell_of_missing_clients(self.service)

    def _check_listeners(self, service: Service) -> None:
        self._listen_on_loopback_by_default()
        listener_rules.close_open_sockets()
        self._tell_of_missing_clients(service)

    def _tell_of_missing_clients(self, service: Service) -> None:
        if self._serving:
            anybody = service.clients.gatekeeper.keyring.anybody
            listener_rules.tell_of_missing_clients(service.snapshot.config, anybody=anybody)

    def _listen_on_loopback_by_default(self) -> bool:
        self._defaulting = True  # `configure` is called in the middle of this, and shall not build a second gateway
        try:
            return listener_rules.listen_on_loopback_by_default()
        finally:
            self._defaulting = False
