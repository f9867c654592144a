"""Telling one kind of request from another."""

import pytest

from authpool.config.selector import Selector
from authpool.rotation.rotation import RotationRequest
from authpool.rotation.selection import MOST_LANE_LETTERS, lane_of


def asked(model: str | None) -> RotationRequest:
    return RotationRequest(method="GET", host="h", path="/v1/x?key=1", header=lambda name: model)


def test_the_name_of_a_lane_is_what_the_request_has() -> None:
    """Nothing where it has nothing."""
    by_header = Selector(kind="header", name="X-Model")
    assert lane_of(by_header, asked("large")) == "large"
    assert lane_of(by_header, asked(None)) == ""
    assert lane_of(Selector(kind="path"), asked(None)) == "/v1/x"
    assert lane_of(Selector(), asked("large")) == ""


@pytest.mark.parametrize("model", ("x" * (MOST_LANE_LETTERS + 1), "a\nb", "\udcff"))
def test_what_fits_into_no_log_and_no_file_is_a_digest(model: str) -> None:
    """Clients name the kinds: neither long ones, nor line breaks, nor what is no text, may get there."""
    lane = lane_of(Selector(kind="header", name="X-Model"), asked(model))
    assert lane.startswith("sha256:")
    assert len(lane.encode()) < 40
    assert lane == lane_of(Selector(kind="header", name="X-Model"), asked(model))
