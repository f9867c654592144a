"""The person who reads mitmproxy's log, as a sign-in reaches them."""

import asyncio
import logging
import os
import sys
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.log import ALERT

from authpool.accounts.printable import printable
from authpool.oauth.authorization import AuthorizationRequest
from authpool.oauth.device_authorization import DeviceCode
from authpool.verbs.headless import why_headless
from authpool.verbs.person import TIMEOUT_SECONDS

logger = logging.getLogger(__name__)


class LogReader:
    """Told in the log; heard by the command `authpool.login.answer`."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(self, answer: str) -> None:
        self._heard.put_nowait(answer)

    def why_headless(self) -> str | None:
        return why_headless(os.environ, sys.platform, lambda name: Path(name).exists())

    def show(self, request: AuthorizationRequest, port: int) -> None:
        _tell(f"Sign in within {TIMEOUT_SECONDS:g} s, with a browser on this machine (it comes back to port {port}):")
        _tell(request.url)
        _tell("With a browser elsewhere: authpool.login.answer, and the address that it ends up at")

    def show_code(self, code: DeviceCode) -> None:
        _tell(f"Sign in with a browser anywhere, within {min(TIMEOUT_SECONDS, code.lifetime_seconds):g} s:")
        _tell(printable(code.url))
        _tell(f"and enter this code there: {printable(code.user_code)}")

    async def pasted(self) -> str:
        return await self._heard.get()

    def doubt(self, why: str) -> None:
        logger.warning("authpool: that is not the answer to the sign-in: %s", why)

    def warn(self, text: str) -> None:
        logger.warning("authpool: %s", text)


def told_level() -> int:
    """The console shows nothing of its log but alerts and worse, and mitmweb has no alerts."""
    return ALERT if "console_eventlog_verbosity" in ctx.options else logging.INFO


def _tell(text: str) -> None:
    logger.log(told_level(), "%s", text)
