"""A real OAuth provider with a grace window: django-oauth-toolkit in a child process, on loopback."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from support.provider_process import ProviderProcess

_SCRIPT = Path(__file__).parent.parent / "provider" / "django_server.py"


class DjangoProvider(ProviderProcess):
    """django-oauth-toolkit: rotates refresh tokens, and the access token that goes with one ends at once.

    A spent refresh token that comes again within `grace_seconds` is answered with the identical pair: for a client
    that never got the first answer. Later, or older than the one before, it ends the whole family. `/me` is a
    protected resource.
    """

    def __init__(self, *, access_token_seconds: int = 3600, grace_seconds: int = 30) -> None:
        super().__init__()
        self.client_id = "authpool-tests"
        self.client_secret = "the-test-client-secret"
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._options = {
            "accessTokenSeconds": access_token_seconds,
            "graceSeconds": grace_seconds,
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
        }

    def command(self) -> Sequence[str]:
        self._folder = tempfile.TemporaryDirectory(prefix="authpool-django-")
        return [sys.executable, str(_SCRIPT), json.dumps(self._options | {"folder": self._folder.name})]

    def stop(self) -> None:
        super().stop()
        if self._folder is not None:
            self._folder.cleanup()

    def pool(self) -> dict[str, Any]:
        """A `[pools.X]` table for accounts of this provider and its own `/me` as the upstream."""
        return {
            "token_url": self.token_url,
            "userinfo_url": self.userinfo_url,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "hosts": [f"{self.host}:{self.port}"],
        }

    async def grant(self, account: str) -> dict[str, Any]:
        """Sign `account` in, without a browser; answers a token response (RFC 6749 §5.1)."""
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await http.post(f"{self.issuer}/admin/grant", json={"account": account})
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer
