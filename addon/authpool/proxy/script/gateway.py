"""What mitmproxy loads: `mitmdump -s gateway.py`. The gateway itself is the package authpool.

A copy of this file that lies in a home, as `authpool init` writes it, is for that home.
"""

import signal
import sys

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it may be listening already; a reload this early would change nothing

try:
    import authpool.store.folder.store  # noqa: F401 - found by name later, where what it lacks would be harder to tell
    from authpool.proxy.addon import Gateway
    from authpool.proxy.commands import Commands
except ModuleNotFoundError as error:
    wanted = f"{sys.executable} -m pip install authpool"
    raise SystemExit(f"authpool: there is no {error.name} in mitmproxy's Python; run: {wanted}") from None

gateway = Gateway(__file__)
addons = [gateway, Commands(gateway)]
