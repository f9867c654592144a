"""The mitmproxy addon: the gateway's life, and mitmproxy's events translated into calls of the rest."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Sequence
from collections.abc import Set as AbstractSet

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import mode_specs
from mitmproxy.utils import asyncio_utils

from authpool.access_log import FORMATS, AccessLog
from authpool.config import Config
from authpool.config.endpoint_url import is_loopback
from authpool.errors import AuthpoolError, ConfigurationError
from authpool.home import home_folder, secure_folder
from authpool.proxy import wire
from authpool.proxy.gate import gateway_error
from authpool.proxy.terminal import Terminal
from authpool.proxy.traffic import OWN_TRAFFIC_MODES, Traffic
from authpool.service import Service

logger = logging.getLogger(__name__)

_CLIENT_KEYS = "authpool.toml: gateway.client_keys"


class Gateway:
    """Puts credentials from a pool on requests. State is in the service; this class only translates."""

    name = "authpool"

    def __init__(self) -> None:
        self.service: Service | None = None
        self._traffic: Traffic | None = None
        self._started: asyncio.Future[bool] | None = None
        self._access_log = AccessLog()
        self._terminal = Terminal()
        self._home = ""
        self._plugins: tuple[str, ...] = ()
        self._configured = False
        self._stopping = False

    def load(self, loader: Loader) -> None:
        wire.close(gateway_error)  # whatever fails from here on, nothing goes out without a gate
        loader.add_option(
            "authpool_home",
            str,
            "",
            "The folder with authpool.toml and the accounts. Default: AUTHPOOL_HOME, else ~/.authpool.",
        )
        loader.add_option(
            "authpool_plugins",
            Sequence[str],
            [],
            "Plugins to load beside those installed and those in the home: files or module names. "
            "Default: AUTHPOOL_PLUGINS, separated by commas.",
        )
        loader.add_option(
            "authpool_access_log",
            str,
            "off",
            "A line for each request, with its pool and account: off, text or json. On standard output in mitmdump "
            "and mitmweb, also with --quiet, and in the event log.",
            choices=tuple(FORMATS),
        )

    def configure(self, updated: AbstractSet[str]) -> None:
        self._configured = True
        if self._stopping:
            return
        try:
            _check_options()
            if self.service is None:
                self._build()
            elif ctx.options.authpool_home != self._home:
                raise exceptions.OptionsError("authpool: the home can't change while the gateway runs: start anew")
            elif tuple(ctx.options.authpool_plugins) != self._plugins:
                raise exceptions.OptionsError("authpool: the plugins can't change while the gateway runs: start anew")
            if self.service is not None and {"mode", "listen_host", "authpool_home"} & set(updated):
                self._check_listeners(self.service.snapshot.config)
            self._access_log.form = ctx.options.authpool_access_log
            if "termlog_verbosity" in updated:  # an option of those tools alone that print their log
                self._terminal.configure(ctx.options.termlog_verbosity)
            if "ssl_insecure" in updated and ctx.options.ssl_insecure:
                logger.warning("authpool: ssl_insecure is set: credentials go to upstreams that prove nothing")
        except AuthpoolError as error:
            raise exceptions.OptionsError(f"authpool: {error}") from error

    def running(self) -> asyncio.Future[bool]:
        # A plain function that returns an awaitable works both at start and when the script is reloaded.
        if not self._configured:  # added to a master by a program; the tools and scripts configure first
            self.configure(set(ctx.options.keys()))
        elif self.service is not None:
            self._check_listeners(self.service.snapshot.config)
        self._started = asyncio.ensure_future(self._start())
        return self._started

    def done(self) -> asyncio.Future[None]:
        self._stopping = True
        if self._traffic is not None:
            wire.remove(self._traffic.gate)
        return asyncio.ensure_future(self._stop())

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live or flow.response is not None or flow.error is not None or self._traffic is None:
            return  # loaded from a file, or answered already; without a gateway the wire refuses
        try:
            if self._traffic.answer_health(flow, stopping=self._stopping):  # at once, whatever is still under way
                return
            if self._stopping:  # mitmproxy goes on listening; a refresh begun now would be cut off, its rotation lost
                self._traffic.refuse(flow)
                return
            if self._started is not None:
                await asyncio.shield(self._started)
            await self._traffic.take(flow)
        except Exception:
            logger.exception("authpool failed; the request is refused")
            self._traffic.refuse(flow)

    # Plain functions, for a coroutine costs something, and nearly always there is nothing to wait for.

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        if self._traffic is None or flow.response is not None or not self._traffic.awaits_body(flow):
            return None
        return self._take_whole(self._traffic, flow)

    async def _take_whole(self, traffic: Traffic, flow: http.HTTPFlow) -> None:
        try:
            await traffic.take_whole(flow)
        except Exception:
            logger.exception("authpool failed; the request is refused")
            traffic.refuse(flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.live and self._traffic is not None:
            self._traffic.answer_headers(flow)

    async def authpool_upstream_answer(self, flow: http.HTTPFlow) -> None:
        if self._traffic is not None and not self._stopping:
            await self._traffic.answered(flow)

    def response(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        return self._ended(flow)

    def error(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        return self._ended(flow)

    def _ended(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        if self._traffic is None:
            return None
        self._traffic.ended(flow)
        return self._traffic.finished(flow)

    # --- life -------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        for name in ("httpx", "httpcore", "hpack"):  # they log URLs and headers
            logging.getLogger(name).setLevel(logging.WARNING)
        self._home = ctx.options.authpool_home
        self._plugins = tuple(ctx.options.authpool_plugins)
        home = home_folder(self._home or None, os.environ)
        if home.is_dir():  # a mistyped home is an error, not a new folder
            secure_folder(home)
        self.service = Service(home, os.environ, accept=self._accept, plugins=self._plugins)
        self._traffic = Traffic(self.service, self._access_log.observe)
        wire.install(
            self._traffic.gate, gateway_error, fast_dispatch=self.service.snapshot.config.gateway.fast_dispatch
        )

    async def _start(self) -> bool:
        if self.service is None:
            return False
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload_soon)
        try:
            await self.service.start()
        except AuthpoolError as error:
            logger.error("authpool can't start: %s", error)
            return False
        return True

    async def _stop(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        if ctx.master.should_exit.is_set():
            ctx.options.update(server=False)  # whoever comes now finds nobody listening, rather than an error
        else:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the script is being replaced: no reason to die meanwhile
        try:
            if self.service is not None:
                await self.service.stop()
        finally:
            self._terminal.close()

    def reload_soon(self) -> None:
        """Reload, and say in the log what came of it."""
        asyncio_utils.create_task(self._reload(), name="authpool reload", keep_ref=True)

    async def _reload(self) -> None:
        if self.service is None:
            return
        try:
            await self.service.reload()
        except AuthpoolError as error:
            logger.error("authpool: %s The old configuration stays in force.", error)

    def _accept(self, config: Config) -> None:
        self._check_listeners(config)
        wire.dispatch(fast=config.gateway.fast_dispatch)

    def _check_listeners(self, config: Config) -> None:
        """Until gateway keys exist, nobody but this machine may reach a gateway that holds credentials."""
        if config.gateway.client_keys == "off":
            return
        if config.gateway.client_keys == "required":
            raise ConfigurationError(
                _CLIENT_KEYS,
                "gateway keys are not there yet, so none can be required.",
                'Use "auto" (loopback only) or "off".',
            )
        modes = [mode_specs.ProxyMode.parse(mode) for mode in ctx.options.mode]
        listening = [mode for mode in modes if mode.type_name not in OWN_TRAFFIC_MODES]
        if not ctx.options.listen_host and any(not mode.listen_host("") for mode in listening):
            # mitmproxy's own default is every interface.
            logger.info("authpool: no listen_host was given; listening on 127.0.0.1 only")
            ctx.options.update(listen_host="127.0.0.1")
        for mode in listening:
            host = mode.listen_host(ctx.options.listen_host)
            if not is_loopback(host):
                raise ConfigurationError(
                    _CLIENT_KEYS,
                    f"{mode.full_spec} listens on {host or 'every interface'}, and whoever reaches it gets the pool's "
                    "credentials.",
                    'Use --listen-host 127.0.0.1, or set it to "off" if something else keeps strangers out.',
                )
        server = ctx.master.addons.get("proxyserver")
        if server is not None and not all(is_loopback(address[0]) for address in server.listen_addrs()):
            # mitmproxy listens before it loads a script, and leaves an open listener where it is: open it anew.
            ctx.options.update(server=False)
            ctx.options.update(server=True)


def _check_options() -> None:
    """Raises OptionsError."""
    if ctx.options.proxy_debug:
        raise exceptions.OptionsError("authpool: proxy_debug logs what is on the wire, credentials too: unset it")
    if ctx.options.authpool_access_log not in FORMATS:  # mitmproxy does not look at `choices` itself
        raise exceptions.OptionsError(f"authpool: authpool_access_log is one of: {', '.join(FORMATS)}")
