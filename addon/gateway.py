"""The credential gateway, for `mitmdump -s addon/gateway.py`. The gateway itself is the package beside this file."""

import signal
import sys
from pathlib import Path

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it may be listening already; a reload this early would change nothing
FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER))  # the package is found here when it is not installed

try:
    import authpool.store.folder.store  # noqa: F401 - found by name later, where what it lacks would be harder to tell
    from authpool.proxy.addon import Gateway
    from authpool.proxy.commands import Commands
except ModuleNotFoundError as error:
    wanted = f"{sys.executable} -m pip install {FOLDER.parent}"
    raise SystemExit(f"authpool: there is no {error.name} in mitmproxy's Python; run: {wanted}") from None

gateway = Gateway()
addons = [gateway, Commands(gateway)]
