"""Finding plugins: entry points of the group `authpool`, files and modules that are named, the home's plugins/."""

import importlib
import importlib.metadata
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from authpool import __version__
from authpool.files.strict_modes import check_way, trusted_users

GROUP = "authpool"
ENVIRONMENT = "AUTHPOOL_PLUGINS"
_CHECKOUT = Path(__file__).resolve().parents[3]
_FIRST_PARTY = "first-party"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plugin that was found and not loaded yet. `load` may raise anything: it runs the plugin's own code."""

    name: str
    origin: str
    version: str | None
    load: Callable[[], object]


def find_plugins(folder: Path | None, named: Sequence[str] = ()) -> Iterator[Candidate]:
    """Every plugin there is. `folder` is the home's plugins/; `named` are files (``*.py``) and module names."""
    trusted = trusted_users(Path("/") if folder is None else folder.parent)
    yield from _entry_points()
    for name in named:
        yield _of_file(Path(name).expanduser(), trusted) if _is_file_name(name) else _of_module(name)
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob("*.py")):
            yield _of_file(path, trusted)


def named_plugins(option: Sequence[str], environment: str) -> tuple[str, ...]:
    """Which plugins are named: by the option `authpool_plugins`, else by AUTHPOOL_PLUGINS, separated by commas."""
    return tuple(option) or tuple(filter(None, map(str.strip, environment.split(","))))


def _is_file_name(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def _entry_points() -> Iterator[Candidate]:
    installed = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    first_party = _checkout_entry_points()
    for name in sorted(installed.keys() | first_party.keys()):
        point = installed.get(name) or first_party[name]
        dist = point.dist
        own = dist is None or dist.name == GROUP
        yield Candidate(
            name=name,
            origin=_FIRST_PARTY if dist is None or own else f"package {dist.name}",
            version=__version__ if dist is None or own else dist.version,
            load=point.load,
        )


def _checkout_entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """The first-party entry points of a source checkout that is run without being installed."""
    pyproject = _CHECKOUT / "pyproject.toml"
    folder = _CHECKOUT / "plugins"
    if not (pyproject.is_file() and folder.is_dir()):
        return {}
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    with pyproject.open("rb") as file:
        points: dict[str, str] = tomllib.load(file)["project"]["entry-points"][GROUP]
    return {name: importlib.metadata.EntryPoint(name, value, GROUP) for name, value in points.items()}


def _of_module(name: str) -> Candidate:
    return Candidate(name=name, origin=f"module {name}", version=None, load=lambda: importlib.import_module(name))


def _of_file(path: Path, trusted: frozenset[int]) -> Candidate:
    def load() -> ModuleType:
        check_way(path, trusted)  # it is about to run as who runs this
        return _import_file(path)

    return Candidate(name=path.stem, origin=str(path), version=None, load=load)


def _import_file(path: Path) -> ModuleType:
    name = f"authpool_plugin_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the plugin look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
