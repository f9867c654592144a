"""Telling one kind of request from another. Pure."""

from authpool.config.selector import Selector
from authpool.rotation import RotationRequest
from authpool.upstream_answer import json_field


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
