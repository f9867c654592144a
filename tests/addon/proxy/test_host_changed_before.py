"""Who writes a Host before the gateway looks at the request names no other host than the request goes to."""

from collections.abc import Callable

import pytest
from mitmproxy import http

from support.pool_rig import Rig, gateway_master
from support.raw_client import head, send_raw

pytestmark = pytest.mark.mitmproxy


class Changes:
    """Another addon, which is asked first."""

    def __init__(self, change: Callable[[http.Request], None], hook: str = "requestheaders") -> None:
        self.change = change
        setattr(self, hook, self._apply)

    def _apply(self, flow: http.HTTPFlow) -> None:
        self.change(flow.request)


def another(request: http.Request) -> None:
    request.headers["host"] = "evil.test"


def a_second(request: http.Request) -> None:
    request.headers.add("Host", "evil.test")


def a_second_of_the_same(request: http.Request) -> None:
    request.headers.add("Host", request.headers["host"])


def another_port(request: http.Request) -> None:
    request.headers["host"] = "127.0.0.1:1"


def an_authority(request: http.Request) -> None:
    request.authority = "evil.test"


def a_copy_of_it(request: http.Request) -> None:
    request.headers["host"] = "gateway.example"


def nothing(_request: http.Request) -> None:
    pass


def the_same(request: http.Request) -> None:
    request.headers["host"] = f"{request.host}:{request.port}"


async def answers(rig: Rig, change: Callable[[http.Request], None], host: str, **settings: object) -> list[int]:
    """Send one request in reverse mode, with another addon before the gateway."""
    rig.home("alice", gateway={"listener_names": ["gateway.example"]})
    mode = f"reverse:{rig.upstream.url}"
    async with gateway_master(rig.path, before=[Changes(change)], mode=mode, **settings) as gateway:
        answer = await send_raw(gateway.port, head("GET /v1 HTTP/1.1", f"Host: {host}"))
    return [answer.status, len(rig.upstream.received)]


@pytest.mark.parametrize("keep", (False, True), ids=("Host of the upstream", "Host of the client"))
@pytest.mark.parametrize("change", (another, a_second, a_second_of_the_same, another_port, an_authority))
async def test_another_host_is_refused(rig: Rig, change: Callable[[http.Request], None], *, keep: bool) -> None:
    """In reverse mode as in any other; nothing goes out."""
    assert await answers(rig, change, "gateway.example", keep_host_header=keep) == [400, 0]


@pytest.mark.parametrize("change", (nothing, the_same))
async def test_what_names_the_upstream_goes_on(rig: Rig, change: Callable[[http.Request], None]) -> None:
    """By whatever name the client addressed the listener."""
    assert await answers(rig, change, "gateway.example") == [200, 1]


async def test_the_clients_own_host_is_kept_where_the_operator_says_so(rig: Rig) -> None:
    """`keep_host_header`: that and nothing else; without it not even what the client said."""
    assert await answers(rig, nothing, "gateway.example", keep_host_header=True) == [200, 1]
    assert [request.header("host") for request in rig.upstream.received] == ["gateway.example"]


async def test_what_the_client_said_is_another_host_where_the_operator_says_nothing(rig: Rig) -> None:
    """An addon that puts the client's Host back."""
    assert await answers(rig, a_copy_of_it, "gateway.example") == [400, 0]
