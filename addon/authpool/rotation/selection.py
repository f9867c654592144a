"""Telling one kind of request from another. Pure."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from authpool.config.selector import Selector
from authpool.rotation.json_prefix import field_of_prefix
from authpool.rotation.looked_at_body import LOOKED_AT_BYTES
from authpool.rotation.rotation import RotationRequest


def selected(selector: Selector, request: RotationRequest) -> str | None:
    """What a request has where the selector looks; None where it has nothing, or nothing plain."""
    match selector.kind:
        case "client":
            return request.client
        case "path":
            return request.path.partition("?")[0]
        case "header":
            return request.header(selector.name)
        case "json":
            return json_field(request.body(), selector.name.split("."))
    return None


MOST_LANE_LETTERS = 128


def lane_of(selector: Selector, request: RotationRequest) -> str:
    """Name the kind of a request, empty where it has none; it goes into logs and files, so what can't is a digest."""
    kind = selected(selector, request) or ""
    if len(kind) <= MOST_LANE_LETTERS and kind.isprintable():
        return kind
    return "sha256:" + hashlib.sha256(kind.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def json_field(body: bytes | None, path: Sequence[str]) -> str | None:
    """The value of a field in a JSON body, as a string; None where there is none, or where it is no plain value."""
    long = body is not None and len(body) >= LOOKED_AT_BYTES
    match field_of_prefix(body or b"", path) if long else _field_of_all(body or b"", path):
        case bool() as value:
            return str(value).lower()
        case str() | int() | float() as value:
            return str(value)
    return None


def _field_of_all(body: bytes, path: Sequence[str]) -> Any:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for step in path:
        if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value
