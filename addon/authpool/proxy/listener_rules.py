"""Who may reach the gateway: this machine alone, unless an operator says otherwise; then gateway keys are asked for."""

import logging

from mitmproxy import ctx
from mitmproxy.proxy import mode_specs

from authpool.config import Config
from authpool.config.endpoint_url import is_loopback
from authpool.proxy.clients import OWN_TRAFFIC_MODES
from authpool.proxy.wire import listeners

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


def listen_on_loopback_by_default() -> bool:
    """Where no address was given, make it 127.0.0.1, for mitmproxy's own default is every interface.

    Answers whether that was so.
    """
    if ctx.options.listen_host or all(mode.listen_host("") for mode in _listening()):
        return False
    logger.info("authpool: no listen_host was given; listening on %s only", LOOPBACK)
    ctx.options.update(listen_host=LOOPBACK)
    return True


def tell_of_missing_clients(config: Config, *, anybody: bool) -> None:
    """Where keys are asked for and there is no client, say how one is made: until then nobody is let in."""
    if anybody or config.gateway.client_keys == "off":
        return
    if config.gateway.client_keys == "required":
        logger.warning(
            'authpool: client_keys is "required", and there is no client yet; `authpool client add NAME` makes one'
        )
        return
    for mode, host in open_listeners():
        logger.warning(
            "authpool: %s listens on %s, where a gateway key is asked for, and there is no client yet; "
            "`authpool client add NAME` makes one",
            mode,
            host,
        )


def warn_of_open_listeners(config: Config) -> None:
    """Without a check of keys, say who else can reach the credentials."""
    if config.gateway.client_keys == "off":
        for mode, host in open_listeners():
            logger.warning(
                'authpool: %s listens on %s, and client_keys is "off": whoever reaches it gets the credentials of all '
                "pools",
                mode,
                host,
            )


def open_listeners() -> list[tuple[str, str]]:
    """The modes that other machines can reach, and where they listen."""
    hosts = [(mode.full_spec, mode.listen_host(ctx.options.listen_host)) for mode in _listening()]
    return [(mode, host or "every interface") for mode, host in hosts if not is_loopback(host)]


def close_open_sockets() -> None:
    """Listen anew where others reach what was to be on this machine: mitmproxy leaves an open listener where it is."""
    if any(is_loopback(asked) and not is_loopback(address) for address, asked in listeners.addresses()):
        ctx.options.update(server=False)
        ctx.options.update(server=True)


def _listening() -> list[mode_specs.ProxyMode]:
    modes = [mode_specs.ProxyMode.parse(mode) for mode in ctx.options.mode]
    return [mode for mode in modes if mode.type_name not in OWN_TRAFFIC_MODES]
