"""A running gateway without mitmproxy: the parts put together, and the store followed."""
