"""Finding plugins, and asking them: entry points of the group `authpool`, and the files in the home's plugins/."""

import importlib.metadata
import importlib.util
import logging
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pluggy

from authpool import hookspecs
from authpool.config import PoolConfig
from authpool.errors import ConfigurationError
from authpool.events import AccountEvent
from authpool.rotation import Rotation

logger = logging.getLogger(__name__)

GROUP = "authpool"
_CHECKOUT = Path(__file__).resolve().parents[2]


class Plugins:
    """All plugins of this process. First-party ones come through the same door as anybody's."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load every plugin there is. Raises ConfigurationError naming the plugin that can't be loaded."""
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._load_entry_points()
        for path in sorted(folder.glob("*.py")) if folder is not None and folder.is_dir() else []:
            self._register(path.stem, _import_file(path), str(path))
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise ConfigurationError("plugins", str(error), "Known hooks are in authpool.hookspecs.") from error

    def rotation(self, pool: PoolConfig) -> Rotation:
        """Make the rotation a pool asks for. Raises ConfigurationError when no plugin knows it."""
        factory = self._manager.hook.authpool_rotation(name=pool.rotation)
        if factory is None:
            raise ConfigurationError(
                f"authpool.toml: pools.{pool.name}.rotation",
                f"no plugin provides the rotation {pool.rotation!r}.",
                'Use "round_robin", or install the plugin that provides it.',
            )
        rotation: Rotation = factory(pool)
        return rotation

    def notify(self, event: AccountEvent) -> None:
        """Tell every plugin of an event; a plugin that raises is named in the log, and the others are told."""
        for caller in self._manager.hook.authpool_account_event.get_hookimpls():
            try:
                caller.function(**dict.fromkeys(caller.argnames, event))
            except Exception:
                logger.exception("Plugin %s failed on an account's %s event", caller.plugin_name, event.kind)

    def _load_entry_points(self) -> None:
        points = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
        for name, value in _checkout_entry_points().items():
            points.setdefault(name, importlib.metadata.EntryPoint(name, value, GROUP))
        for name, point in sorted(points.items()):
            try:
                module = point.load()
            except Exception as error:
                raise ConfigurationError(
                    f"plugin {name}",
                    f"can't be loaded ({type(error).__name__}: {error}).",
                    "Mend or uninstall it.",
                ) from error
            self._register(name, module, point.value)

    def _register(self, name: str, module: ModuleType, origin: str) -> None:
        try:
            self._manager.register(module, name)
        except (ValueError, pluggy.PluginValidationError) as error:
            raise ConfigurationError(f"plugin {name} ({origin})", str(error), "Mend or remove it.") from error


def _checkout_entry_points() -> dict[str, str]:
    """The first-party entry points of a source checkout that is run without being installed."""
    pyproject = _CHECKOUT / "pyproject.toml"
    folder = _CHECKOUT / "plugins"
    if not (pyproject.is_file() and folder.is_dir()):
        return {}
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    with pyproject.open("rb") as file:
        points: dict[str, str] = tomllib.load(file)["project"]["entry-points"][GROUP]
    return points


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"authpool_home_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"plugin {path}", "is not a Python file.", "Rename or remove it.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigurationError(
            f"plugin {path}", f"can't be loaded ({type(error).__name__}: {error}).", "Mend or remove it."
        ) from error
    return module
