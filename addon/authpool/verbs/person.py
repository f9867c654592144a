"""Who signs in, as a sign-in reaches them: at a terminal, or through a log."""

from typing import Protocol

from authpool.oauth.authorization import AuthorizationRequest
from authpool.oauth.device_authorization import DeviceCode

TIMEOUT_SECONDS = 300.0
"""So long a person is waited for."""


class Person(Protocol):
    """What a sign-in tells a person, and hears of them."""

    def why_headless(self) -> str | None:
        """Say why no browser can be started where they are; None where one may."""

    def show_code(self, code: DeviceCode) -> None:
        """Tell where to go with another device, and what to type there."""

    def warn(self, text: str) -> None:
        """Tell that it goes on in another way than was wanted."""

    def show(self, request: AuthorizationRequest, port: int) -> None:
        """Tell where to sign in; the answer comes to `port` on loopback."""

    async def pasted(self) -> str:
        """Wait for a line that may be the answer; for ever where there is nobody to paste one."""

    def doubt(self, why: str) -> None:
        """Tell why a pasted line is not the answer."""
