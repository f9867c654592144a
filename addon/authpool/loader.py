"""What mitmproxy loads: `mitmdump -s loader.py`. The gateway itself is the package authpool."""

from authpool.addon import Gateway
from authpool.commands import Commands

gateway = Gateway()
addons = [gateway, Commands(gateway)]
