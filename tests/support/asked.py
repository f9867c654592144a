"""A request's way through a service without mitmproxy: what the hooks do with it, one after the other."""

from collections.abc import Callable
from typing import Any

from authpool.gateway.service import Service
from authpool.requests.failover import Decision
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.upstream_answer import UpstreamAnswer, usual_meaning
from authpool.rotation.quota import Header
from authpool.rotation.rotation import RotationRequest

type Upstream = Callable[[str, str], int]
"""What status an upstream answers to an access token and a path."""


def pooled(path: str = "/x", **more: Any) -> PooledRequest:
    """Give the pooled request of a request of pool `p`."""
    asked = RotationRequest(method="GET", host="api.example.com", path=path)
    settings: dict[str, Any] = {"pool": "p", "rotation": "round_robin", "request": asked, "max_accounts": 3}
    return PooledRequest(**settings | more)


async def sent(service: Service, path: str = "/x", **more: Any) -> PooledRequest:
    """Bring a request to the wire; it may have been refused instead."""
    taken = pooled(path, **more)
    await service.picker.acquire(taken)
    if taken.refusal is None:
        _send(service, taken)
    return taken


def _send(service: Service, taken: PooledRequest) -> None:
    if service.picker.current(taken) is None:
        service.picker.refuse(taken)
    else:
        service.picker.sent(taken)


async def answered(
    service: Service, taken: PooledRequest, upstream: Upstream, header: Header = lambda name: None
) -> int:
    """Answer a request until it is over; what its client sees."""
    while taken.refusal is None:
        status = upstream(taken.access_token, taken.request.path)
        answer = UpstreamAnswer(status=status, header=header)
        meaning = usual_meaning(answer)
        service.failover.heard(taken, answer, meaning)
        if await service.failover.decide(taken, meaning, resend=True) is Decision.PASS_ON and taken.refusal is None:
            service.picker.release(taken)
            return status
        if taken.refusal is None:
            _send(service, taken)
    service.picker.release(taken)
    assert taken.refusal is not None
    return taken.refusal.status


async def ask(service: Service, upstream: Upstream, path: str = "/x", **more: Any) -> int:
    """Send one request, and give what its client sees."""
    return await answered(service, await sent(service, path, **more), upstream)
