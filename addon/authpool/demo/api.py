"""An API that serves whoever brings a token the provider knows, and tells them who they are."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from authpool.demo.failure import DemoFailedError
from authpool.demo.plain_http import fetch

_SERVED = "Served for "


class Api(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1. `tokens` are all it was ever shown."""

    daemon_threads = True

    def __init__(self, userinfo_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._userinfo_url = userinfo_url
        self.tokens: set[str] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def user_of(self, authorization: str) -> str | None:
        """Ask the provider whose token this is; None when it is nobody's."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        self.tokens.add(token)
        answer = fetch(self._userinfo_url, headers={"Authorization": f"Bearer {token}"})
        return str(json.loads(answer.body)["email"]) if answer.status == 200 else None


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        try:
            user = self.server.user_of(self.headers.get("Authorization", ""))
        except DemoFailedError:
            self._answer(502, "The provider does not answer\n")
        else:
            self._answer(401, "Who are you?\n") if user is None else self._answer(200, f"{_SERVED}{user}\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: the demo tells what happens."""


def served_user(body: bytes) -> str:
    """Who the API says it served; empty when it did not."""
    text = body.decode("utf-8", "replace").strip()
    return text.removeprefix(_SERVED) if text.startswith(_SERVED) else ""


@contextlib.contextmanager
def running_api(userinfo_url: str) -> Iterator[Api]:
    """Run the API in a thread of this process."""
    with Api(userinfo_url) as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.05,), name="demo api", daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.shutdown()
            thread.join()
