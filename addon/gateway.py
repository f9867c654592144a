"""The credential gateway, for `mitmdump -s addon/gateway.py`. The gateway itself is the package beside this file."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # found here when authpool is not installed

from authpool.proxy.addon import Gateway
from authpool.proxy.commands import Commands

gateway = Gateway()
addons = [gateway, Commands(gateway)]
