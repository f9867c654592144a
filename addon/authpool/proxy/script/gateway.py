"""What mitmproxy loads: `mitmdump -s gateway.py`. The gateway itself is the package authpool."""

from authpool.proxy.addon import Gateway
from authpool.proxy.commands import Commands

gateway = Gateway()
addons = [gateway, Commands(gateway)]
