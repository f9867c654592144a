"""mitmproxy's options of the gateway. None is an int or a bool: a mistyped one would drop the whole addon."""

import os
from collections.abc import Sequence

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader

from authpool.errors import RefusedError
from authpool.files.process_memory import refuse_key_log
from authpool.requests.access_log import FORMATS


def add_options(loader: Loader, home: str) -> None:
    """Make mitmproxy know them; `home` is the default of `authpool_home`."""
    loader.add_option(
        "authpool_home",
        str,
        home,
        "The folder with authpool.toml and the accounts. Default: that of the loader in a home, else "
        "AUTHPOOL_HOME, else ~/.authpool.",
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


def check_options() -> None:
    """Raises RefusedError for a value that can't be."""
    refuse_key_log(os.environ)
    if ctx.options.proxy_debug:
        raise RefusedError("proxy_debug logs what is on the wire, credentials too: unset it")
    if ctx.options.authpool_access_log not in FORMATS:  # mitmproxy does not look at `choices` itself
        raise RefusedError(f"authpool_access_log is one of: {', '.join(FORMATS)}")
