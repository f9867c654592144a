"""The plugins of this process: loaded, asked, and told. First-party ones come through the same door as anybody's."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from authpool.accounts.events import AccountEvent, PoolEvent, PoolExhausted
from authpool.config import GatewayConfig, PluginInjection, PoolConfig
from authpool.config.config_table import ConfigTable, KeyPath, did_you_mean, mistake
from authpool.config.pool_type import BUILT_IN_TYPES
from authpool.config.presets import Preset
from authpool.errors import ConfigurationError, raised_at
from authpool.plugins import hookspecs
from authpool.plugins.event_thread import EventThread
from authpool.plugins.search import ENVIRONMENT, GROUP, Candidate, find_plugins, named_plugins
from authpool.refresh.token_source import TokenSource
from authpool.requests.classifier import AskedPlugin, Classifier
from authpool.requests.guarded_injector import GuardedInjector
from authpool.requests.injector import Injector
from authpool.rotation.guarded_rotation import GuardedRotation
from authpool.rotation.rotation import Rotation
from authpool.store import Store

logger = logging.getLogger(__name__)

STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRow:
    """One plugin as it is shown. `left_out` says why, and is empty for one that is loaded."""

    name: str
    origin: str
    version: str | None
    hooks: tuple[str, ...] = ()
    left_out: str = ""


class Plugins:
    """Loads every plugin there is; one that can't be loaded is named in the log, and left out."""

    def __init__(self, folder: Path | None = None, named: Sequence[str] = ()) -> None:
        """`folder` is the home's plugins/; `named` are files and modules that were named by option."""
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._event_thread = EventThread("authpool events")
        self._failed: set[tuple[str, str]] = set()
        self._tables: Mapping[str, Mapping[str, Any]] = {}
        self.rows = tuple(self._load(candidate) for candidate in find_plugins(folder, named))
        for row in self.rows:
            if row.left_out:  # a warning: mitmproxy does not start once an error was logged
                logger.warning("Plugin %s (%s) is left out: %s. Mend or remove it", row.name, row.origin, row.left_out)

    # --- loading ----------------------------------------------------------------------------------------------

    def _load(self, candidate: Candidate) -> PluginRow:
        row = PluginRow(name=candidate.name, origin=candidate.origin, version=candidate.version)
        if self._manager.has_plugin(candidate.name):
            return _without(row, "another plugin has this name")
        try:
            plugin = candidate.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is somebody else's code
            return _without(row, f"it can't be loaded ({type(error).__name__}: {' '.join(str(error).split())})")
        try:
            self._manager.register(plugin, candidate.name)
        except Exception as error:  # noqa: BLE001 - likewise; pluggy has taken in a part of it
            if self._manager.get_plugin(candidate.name) is plugin:
                self._manager.unregister(name=candidate.name)
            return _without(row, " ".join(str(error).split()))
        callers = self._manager.get_hookcallers(plugin) or []
        if unknown := sorted(caller.name for caller in callers if not caller.has_spec()):
            self._manager.unregister(name=candidate.name)
            known = [name for name in dir(hookspecs) if name.startswith("authpool_")]
            hint = did_you_mean(unknown[0], known, f"There are: {', '.join(known)}.")
            return _without(row, f"there is no hook {unknown[0]} ({hint.removesuffix('.')})")
        own = getattr(plugin, "__version__", None)
        version = candidate.version or (own if isinstance(own, str) else None)
        hooks = tuple(sorted(caller.name for caller in callers))
        return PluginRow(name=row.name, origin=row.origin, version=version, hooks=hooks)

    # --- asking -----------------------------------------------------------------------------------------------

    def configure(self, tables: Mapping[str, Mapping[str, Any]], home: Path) -> None:
        """Hand each plugin its table ``[plugins.NAME]``. Raises ConfigurationError."""
        self._tables = tables
        takers = {impl.plugin_name: impl for impl in self._implementations("authpool_configure")}
        for name in tables:
            if name not in takers:
                raise mistake(("plugins", name), *self._why_not_configured(name))
        for name, impl in takers.items():
            options = ConfigTable.unchecked(tables.get(name, {}), ("plugins", name))
            _ask(impl, options=options, home=home)

    def restore(self, tables: Mapping[str, Mapping[str, Any]], home: Path) -> None:
        """Hand the plugins their former tables again, after a reload was refused. One that fails is logged."""
        if self._tables is tables or self._tables == tables:
            return
        try:
            self.configure(tables, home)
        except ConfigurationError as error:
            logger.error("Plugins could not be given back their former options: %s", error)

    def rotation(self, pool: PoolConfig) -> GuardedRotation:
        """Make the rotation a pool asks for, and watch it. Raises ConfigurationError when no plugin knows it."""
        path = ("pools", pool.name, "rotation")
        plugin, factory = self._needed("authpool_rotation", pool.rotation, path, usual="round_robin")
        rotation: Rotation = _made(plugin, Rotation, lambda: factory(pool))
        return GuardedRotation(rotation, plugin=plugin, pool=pool.name)

    def token_source(self, pool: PoolConfig) -> TokenSource | None:
        """Make the token source of a pool; None when its type is one of authpool's own. Raises ConfigurationError."""
        if pool.type in BUILT_IN_TYPES:
            return None
        plugin, factory = self._needed("authpool_token_source", pool.type, ("pools", pool.name, "type"))
        source: TokenSource = _made(plugin, TokenSource, lambda: factory(pool))
        return source

    def token_sources(self, pools: Mapping[str, PoolConfig]) -> Mapping[str, TokenSource]:
        """Make the token sources of those pools that have one, by pool, and see that there are rotations for all.

        Raises ConfigurationError.
        """
        for pool in pools.values():
            self.rotation(pool)
        made = {name: self.token_source(pool) for name, pool in pools.items()}
        return {name: source for name, source in made.items() if source is not None}

    def store(self, gateway: GatewayConfig, home: Path) -> Store:
        """Make the store that the configuration asks for. Raises ConfigurationError."""
        path = ("gateway", "store")
        plugin, factory = self._needed("authpool_store", gateway.store, path, usual="folder")
        options = ConfigTable.unchecked(gateway.store_options, path)
        store: Store = _made(plugin, object, lambda: factory(home, options))
        return store

    def preset(self, name: str) -> Preset | None:
        """The preset of that name that a plugin provides. Raises ConfigurationError."""
        plugin, answer = self._first("authpool_preset", name)
        preset: Preset | None = None if answer is None else _made(plugin, Preset, lambda: answer)
        return preset

    def injectors(self, pools: Mapping[str, PoolConfig]) -> Mapping[str, GuardedInjector]:
        """Make the injectors of those pools that have one, by pool, and watch them. Raises ConfigurationError."""
        return {name: self._injector(pool) for name, pool in pools.items() if isinstance(pool.inject, PluginInjection)}

    def _injector(self, pool: PoolConfig) -> GuardedInjector:
        name = pool.inject.name if isinstance(pool.inject, PluginInjection) else ""
        plugin, factory = self._needed("authpool_injection", name, ("pools", pool.name, "inject"))
        injector: Injector = _made(plugin, Injector, lambda: factory(pool))
        return GuardedInjector(injector, plugin=plugin, pool=pool.name)

    def classifier(self, injectors: Mapping[str, GuardedInjector] | None = None) -> Classifier:
        """What judges the answers of upstreams from now on; those of a pool with an injector by that one first."""

        def asked(impl: pluggy.HookImpl) -> AskedPlugin:
            return AskedPlugin(impl.plugin_name, lambda pool, answer: _call(impl, {"pool": pool, "answer": answer}))

        plugins = [asked(impl) for impl in self._implementations("authpool_classify_answer")]
        judging = {name: one.judge() for name, one in (injectors or {}).items()}
        return Classifier(plugins, {name: judge for name, judge in judging.items() if judge is not None})

    def provides_type(self, name: str) -> bool:
        """Whether a plugin provides token sources of that name. Raises ConfigurationError."""
        return self._first("authpool_token_source", name)[1] is not None

    def provides_injection(self, name: str) -> bool:
        """Whether a plugin provides injectors of that name. Raises ConfigurationError."""
        return self._first("authpool_injection", name)[1] is not None

    def _implementations(self, hook: str) -> Iterator[pluggy.HookImpl]:
        """Who implements a hook, in the order in which pluggy asks; wrappers have nothing to wrap here."""
        for impl in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            if not (impl.wrapper or impl.hookwrapper):
                yield impl

    def _first(self, hook: str, name: str) -> tuple[str, Any]:
        for impl in self._implementations(hook):
            answer = _ask(impl, name=name)
            if answer is not None:
                return impl.plugin_name, answer
        return "", None

    def _needed(self, hook: str, name: str, path: KeyPath, usual: str | None = None) -> tuple[str, Any]:
        """The plugin that answers, and what. Raises ConfigurationError about the key at `path` where none does."""
        plugin, answer = self._first(hook, name)
        if answer is None:
            install = f'Use "{usual}", or install' if usual else "Install"
            raise mistake(
                path,
                f"no plugin provides the {path[-1]} {name!r}.",
                f"{install} the plugin that provides it.{self._left_out_note()}",
            )
        return plugin, answer

    def _left_out_note(self) -> str:
        left_out = [f"{row.name} ({row.left_out})" for row in self.rows if row.left_out]
        return f" Left out: {'; '.join(left_out)}." if left_out else ""

    def _why_not_configured(self, name: str) -> tuple[str, str]:
        row = next((row for row in self.rows if row.name == name), None)
        if row is None:
            names = [row.name for row in self.rows if "authpool_configure" in row.hooks]
            return "there is no such plugin.", did_you_mean(name, names, "`authpool plugins` lists them.")
        if row.left_out:
            return f"the plugin is left out: {row.left_out}.", "Mend it, or remove the table."
        return "the plugin has nothing to configure.", "Remove the table."

    # --- telling ----------------------------------------------------------------------------------------------

    def notify(self, event: AccountEvent) -> None:
        """Tell every plugin of an event, soon; one that raises is named in the log, and the others are told."""
        self._tell("authpool_account_event", f"an account's {event.kind} event", event=event)

    def notify_exhausted(self, event: PoolExhausted) -> None:
        """Tell every plugin that a pool had nobody for a request, as `notify` does."""
        self._tell("authpool_pool_exhausted", "an exhausted pool", event=event)

    def notify_pool(self, event: PoolEvent) -> None:
        """Tell every plugin of a pool's trouble, as `notify` does."""
        self._tell("authpool_pool_event", f"a pool's {event.kind} event", event=event)

    def close(self, patience_seconds: float = STOP_SECONDS) -> None:
        """Tell what is left to tell, and that this is the end; for so long and no longer. Blocks."""
        self._tell("authpool_stop", "the end")
        self._event_thread.close(patience_seconds)

    def _tell(self, hook: str, what: str, **arguments: object) -> None:
        if implementations := list(self._implementations(hook)):
            self._event_thread.post(lambda: self._deliver(implementations, what, arguments), "events")

    def _deliver(self, implementations: Sequence[pluggy.HookImpl], what: str, arguments: Mapping[str, object]) -> None:
        for impl in implementations:
            self._event_thread.busy_with(f"plugin {impl.plugin_name}")
            try:
                _call(impl, arguments)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it is somebody else's code
                if (impl.plugin_name, what) not in self._failed:
                    self._failed.add((impl.plugin_name, what))
                    where = raised_at(error)
                    logger.error("Plugin %s failed on %s: %s%s", impl.plugin_name, what, type(error).__name__, where)


def load_plugins(home: Path, environ: Mapping[str, str], named: Sequence[str] = ()) -> Plugins:
    """The plugins that a gateway on this home has; `named` by the option `authpool_plugins`."""
    return Plugins(home / "plugins", named_plugins(named, environ.get(ENVIRONMENT, "")))


def refuse_another_store(old: GatewayConfig, new: GatewayConfig) -> None:
    """Raises ConfigurationError when a reload would put the accounts elsewhere."""
    if (old.store, old.store_options) != (new.store, new.store_options):
        raise mistake(("gateway", "store"), "can't change while the gateway runs.", "Start anew, or put it back.")


def _call(impl: pluggy.HookImpl, arguments: Mapping[str, object]) -> Any:
    return impl.function(**{name: value for name, value in arguments.items() if name in impl.argnames})


def _ask(impl: pluggy.HookImpl, **arguments: object) -> Any:
    try:
        return _call(impl, arguments)
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        raise _at_fault(impl.plugin_name, error) from error


def _made(plugin: str, kind: type[Any], make: Callable[[], Any]) -> Any:
    """What a plugin's factory makes, if it is of that kind. Raises ConfigurationError."""
    try:
        made = make()
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        raise _at_fault(plugin, error) from error
    if not isinstance(made, kind):
        raise ConfigurationError(
            f"plugin {plugin}", f"answers a {type(made).__name__}, not a {kind.__name__}.", "Mend or remove it."
        )
    return made


def _at_fault(plugin: str, error: BaseException) -> ConfigurationError:
    return ConfigurationError(
        f"plugin {plugin}", f"failed ({type(error).__name__}{raised_at(error)}).", "Mend or remove it."
    )


def _without(row: PluginRow, reason: str) -> PluginRow:
    return PluginRow(name=row.name, origin=row.origin, version=row.version, left_out=reason)
