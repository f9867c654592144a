"""By which names clients address the listener itself.

In reverse mode mitmproxy writes over Host before any hook is asked, and of a plain request on the proxy's own port it
makes one for whatever host it names. So both are noted as they come.
"""

from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.mode_specs import ReverseMode

type Names = tuple[bytes, ...]
"""Each Host field and the authority, as they came: none of HTTP/1.0."""

_noted: WeakKeyDictionary[http.Request, Names] = WeakKeyDictionary()


def note_names(client: Client, mode: HTTPMode, request: http.Request) -> None:
    """Remember by which names a request addresses the listener, if that is what it does."""
    if isinstance(client.proxy_mode, ReverseMode) or (mode is not HTTPMode.transparent and _is_plain(request)):
        _noted[request] = _names_in(request)


def note_probe(request: http.Request) -> None:
    """The same for a plain request that is about to be redirected."""
    _noted[request] = _names_in(request)


def names_noted(request: http.Request) -> Names | None:
    """The names by which this request addresses the listener; None: it addresses something else through it."""
    return _noted.get(request)


def _is_plain(request: http.Request) -> bool:
    return not (request.data.host or request.data.authority)


def _names_in(request: http.Request) -> Names:
    fields = request.headers.fields
    names = tuple([value for name, value in fields if len(name) == 4 and name.lower() == b"host"])
    authority = request.data.authority
    return (*names, authority) if authority else names
