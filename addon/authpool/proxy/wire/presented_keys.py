"""Gateway keys are taken off a request before mitmproxy makes a flow of it, whether or not a gateway is there.

What was taken is kept beside the request, for whoever decides about it, and goes with it.
"""

from dataclasses import dataclass
from weakref import ReferenceType, WeakKeyDictionary, ref

from mitmproxy import http
from mitmproxy.proxy.layers.http import HttpStream

from authpool.clients.presented import NOTHING, Presented, is_a_key, take_from_fields, take_from_target

NO_METHOD = b"KEY"
"""What stands for a key where a method should be."""


@dataclass(slots=True, kw_only=True, eq=False)
class Taken:
    """What a request carried, and the stream it is on, which lives as long as mitmproxy wants."""

    presented: Presented
    stream: ReferenceType[HttpStream]


_taken: WeakKeyDictionary[http.Request, Taken] = WeakKeyDictionary()


def take_keys(request: http.Request, stream: HttpStream) -> None:
    """Take every gateway key off the request, and remember what there was."""
    data = request.data
    if is_a_key(data.method):
        data.method = NO_METHOD
    fields, presented = take_from_fields(data.headers.fields)
    if fields is not data.headers.fields:
        data.headers.fields = fields
    target, key = take_from_target(data.path)
    if target is not data.path:
        data.path = target
        if key is not None:
            presented = Presented(values=(*presented.values, key), other=presented.other)
    if presented is not NOTHING:
        _taken[request] = Taken(presented=presented, stream=ref(stream))


def take_keys_from_trailers(trailers: http.Headers) -> http.Headers:
    """The trailers without any key; none there counts."""
    return http.Headers(take_from_fields(trailers.fields)[0])


def taken_from(request: http.Request) -> Taken | None:
    """What was taken off a request, once; None where there was nothing."""
    return _taken.pop(request, None)
