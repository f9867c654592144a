"""The OAuth provider: the library oidc-provider-mock on a port of its own, and a user's browser in front of it."""

import contextlib
import importlib.metadata
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import oidc_provider_mock  # type: ignore[import-untyped]  # it ships no py.typed

from authpool.demo.failure import expect
from authpool.demo.plain_http import PlainAnswer, fetch

CLIENT_ID = "authpool-demo"
SCOPES = ("openid", "email")
NAME = "oidc-provider-mock"

_REDIRECT_URI = "http://localhost/signed-in"  # nobody listens there: the code is read off the redirect
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Provider:
    """Issues tokens to whoever signs in, for an hour, and takes them back when told to."""

    def __init__(self, port: int) -> None:
        # By this name, for http:// is refused by its OAuth library for any other.
        self.issuer = f"http://localhost:{port}"
        self.title = f"{NAME} {importlib.metadata.version(NAME)}"

    @property
    def userinfo_url(self) -> str:
        return f"{self.issuer}/userinfo"

    def sign_in(self, email: str) -> dict[str, Any]:
        """Go through the authorization code flow as a browser would; answers the token response."""
        request = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": _REDIRECT_URI,
            "scope": " ".join(SCOPES),
        }
        consent = self._post(f"/oauth2/authorize?{urlencode(request)}", {"sub": email})
        codes = parse_qs(urlsplit(consent.location or "").query).get("code")
        expect(codes, f"the provider did not let {email} sign in (HTTP {consent.status})")
        grant = {
            "grant_type": "authorization_code",
            "code": (codes or [""])[0],
            "client_id": CLIENT_ID,
            "redirect_uri": _REDIRECT_URI,
        }
        answer = self._post("/oauth2/token", grant)
        expect(answer.status == 200, f"the provider gave {email} no tokens (HTTP {answer.status})")
        response: dict[str, Any] = json.loads(answer.body)
        return response

    def browse(self, address: str, email: str) -> None:
        """Be the browser of a user who opens `address`, signs in, and is sent back to who asked."""
        consent = self._post(address.removeprefix(self.issuer), {"sub": email})
        expect(consent.location, f"the provider did not let {email} sign in (HTTP {consent.status})")
        page = fetch(consent.location or "")
        expect(b"Signed in" in page.body, f"the page at the end of the sign-in of {email} does not say that it worked")

    def revoke(self, email: str) -> None:
        """Make every access and refresh token of this user worthless."""
        answer = self._post(f"/users/{quote(email)}/revoke-tokens", {})
        expect(answer.status == 204, f"the provider did not revoke {email} (HTTP {answer.status})")

    def _post(self, target: str, form: dict[str, str]) -> PlainAnswer:
        return fetch(f"{self.issuer}{target}", method="POST", body=urlencode(form), headers=_FORM)


@contextlib.contextmanager
def running_provider() -> Iterator[Provider]:
    """Run the provider in a thread of this process, on a free port."""
    for name in ("werkzeug", "oidc_provider_mock"):  # a line for each request, and each error it is meant to answer
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    running = oidc_provider_mock.run_server_in_thread()
    server = running.__enter__()
    try:
        yield Provider(server.server_port)
    finally:
        with contextlib.suppress(TimeoutError):  # on a slow machine it ends a little later
            running.__exit__(None, None, None)
