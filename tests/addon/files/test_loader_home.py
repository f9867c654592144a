"""Whose home a script for mitmproxy is for."""

from pathlib import Path

import authpool
from authpool.cli.scaffold import LOADER
from authpool.files.home import home_of_loader


def test_the_script_of_the_package_is_for_any_home() -> None:
    assert LOADER.is_relative_to(Path(authpool.__file__).parent)
    assert home_of_loader(str(LOADER)) == ""


def test_a_script_elsewhere_is_for_the_folder_it_lies_in(tmp_path: Path) -> None:
    assert home_of_loader(str(tmp_path / "addon")) == str(tmp_path.resolve())
