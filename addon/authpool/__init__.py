"""authpool: a credential gateway on mitmproxy, with a pool of OAuth accounts."""

from typing import Final

import pluggy

__version__ = "0.1.0"

hookimpl: Final = pluggy.HookimplMarker("authpool")
"""Marks a function of a plugin as an implementation of one of the hooks in `authpool.plugins.hookspecs`."""

__all__ = ["__version__", "hookimpl"]
