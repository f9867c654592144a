"""The mitmproxy side: the addon, what happens to a flow, and the wire."""
