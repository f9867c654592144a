"""A client on another machine, without another machine."""

from mitmproxy.connection import Client

ADDRESS = "198.51.100.7"


class FromElsewhere:
    """An addon, to come before the gateway: every client is at another machine's address."""

    name = "authpool_tests_elsewhere"

    def client_connected(self, client: Client) -> None:
        client.peername = (ADDRESS, 50_000)
