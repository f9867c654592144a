"""mitmproxy's events about flows, translated into calls of the traffic; a part of the addon."""

import logging
from collections.abc import Awaitable

from mitmproxy import http

from authpool.proxy.traffic import Traffic

logger = logging.getLogger(__name__)


class FlowHooks:
    """Hooks of a request and its answer. The addon says what it knows."""

    _traffic: Traffic | None
    _serving: bool
    _stopping: bool

    async def until_started(self) -> bool:
        """Wait until the accounts and clients are loaded; whether they are."""
        raise NotImplementedError

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live or flow.response is not None or flow.error is not None or self._traffic is None:
            return  # loaded from a file, or answered already; without a gateway the wire refuses
        try:
            if self._traffic.answer_health(flow, stopping=self._stopping):  # at once, whatever is still under way
                return
            if self._stopping:  # mitmproxy goes on listening; a refresh begun now would be cut off, its rotation lost
                self._traffic.refuse(flow)
                return
            if not self._serving and not await self.until_started():
                self._traffic.refuse(flow)
                return
            await self._traffic.take(flow)
        except Exception:
            logger.exception("authpool failed; the request is refused")
            self._traffic.refuse(flow)

    # Plain functions, for a coroutine costs something, and nearly always there is nothing to wait for.

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        if self._traffic is None or flow.response is not None or not self._traffic.awaits_body(flow):
            return None
        return self._take_whole(self._traffic, flow)

    async def _take_whole(self, traffic: Traffic, flow: http.HTTPFlow) -> None:
        try:
            await traffic.take_whole(flow)
        except Exception:
            logger.exception("authpool failed; the request is refused")
            traffic.refuse(flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.live and self._traffic is not None:
            self._traffic.answer_headers(flow)

    async def authpool_upstream_answer(self, flow: http.HTTPFlow) -> None:
        if self._traffic is not None and not self._stopping:
            await self._traffic.answered(flow)

    def response(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        return self._ended(flow)

    def error(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        return self._ended(flow)

    def _ended(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        if self._traffic is None:
            return None
        self._traffic.endings.ended(flow)
        return self._traffic.finished(flow)
