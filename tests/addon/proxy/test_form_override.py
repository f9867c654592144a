"""A form's own `_method` is no way round a pool's `methods`."""

import httpx
import pytest
from mitmproxy.test import tutils

from authpool.proxy.form_override import names_a_method
from support.pool_rig import Rig, client, reverse_gateway

FORM = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data; boundary=b"


def part(disposition: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\nDELETE\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    (
        (FORM, b"_method=DELETE", True),
        (FORM, b"a=1&_method=DELETE", True),
        (FORM, b"a=1;_METHOD=DELETE", True),
        (FORM, b"%5fmethod=DELETE", True),
        (FORM, b"%5F%6D%65%74%68%6F%64=DELETE", True),
        (FORM, b"+_method=DELETE", True),
        (FORM + b"; charset=utf-8", b"_method", True),
        (b" Application/X-WWW-Form-Urlencoded", b"_method=PUT", True),
        (FORM, b"a=_method&b=DELETE", False),
        (FORM, b"method=DELETE", False),
        (FORM, b"_methods=1", False),
        (MULTIPART, part(b'name="_method"'), True),
        (MULTIPART, part(b"name=_method"), True),
        (MULTIPART, part(b"name*=utf-8''_method"), True),
        (MULTIPART, part(b'name="text"').replace(b"DELETE", b"_method"), False),
        (b"application/json", b'{"_method": "DELETE"}', False),
        (b"text/plain", b"_method=DELETE", False),
        (FORM, b"", False),
    ),
)
def test_a_field_that_names_a_method_is_seen(kind: bytes, body: bytes, *, found: bool) -> None:
    """However its name is written; a value that looks like one is none."""
    request = tutils.treq(method=b"POST", content=body, headers=((b"content-type", kind),))
    assert names_a_method(request) is found


@pytest.mark.mitmproxy
@pytest.mark.parametrize("methods", (["GET", "POST"], None))
async def test_it_is_refused_where_a_pool_has_methods(rig: Rig, methods: list[str] | None) -> None:
    """And goes on in a pool that is for all of them."""
    rig.home("alice", methods=methods)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        overriding: httpx.Response = await api.post("/x", data={"_method": "DELETE"})
        plain = await api.post("/x", data={"a": "b"})

    assert overriding.headers.get("authpool-error") == ("request_refused" if methods else None)
    assert (overriding.status_code, plain.status_code) == (400 if methods else 200, 200)
    assert len(rig.upstream.received) == (1 if methods else 2)
