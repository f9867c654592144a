"""What rotations' tests have in common: keys by a short name, requests, pools that ask for a rotation."""

import json
from collections.abc import Mapping
from typing import Any

from authpool.accounts.account import AccountKey
from authpool.config import HostPattern, PoolConfig
from authpool.plugins.manager import Plugins
from authpool.rotation.rotation import Rotation, RotationRequest


def key(name: object) -> AccountKey:
    return AccountKey.of("p", str(name))


def request(
    client: str = "192.0.2.1", headers: Mapping[str, str] | None = None, body: object = None
) -> RotationRequest:
    """Make a request; `body` is what its JSON holds, or its bytes."""
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return RotationRequest(
        method="POST",
        host="api.example.com",
        path="/",
        client=client,
        header=lambda name: lower.get(name.lower()),
        body=lambda: raw,
    )


REQUEST = request()


def made(name: str, options: Mapping[str, Any] | None = None) -> Rotation:
    """Make a rotation as the gateway does, by name and with the options of a pool; without the guard around it."""
    hosts = (HostPattern.parse("api.example.com"),)
    return Plugins().rotation(PoolConfig(name="p", hosts=hosts, rotation=name, rotation_options=options or {})).inner


def serve(rotation: Rotation, times: int = 1, *, client: str = "192.0.2.1") -> list[str]:
    """Serve requests one after another, and answer the names of those that served."""
    names = []
    for _ in range(times):
        chosen = rotation.choose(request(client), ())
        if chosen is None:
            raise LookupError("nobody could serve")
        rotation.started(chosen)
        rotation.finished(chosen)
        names.append(chosen.name)
    return names
