"""The hooks a plugin may implement. Leave out any argument you do not need.

A hook that asks for something by name is put to one plugin after the other, the last one loaded first, until one
answers. Those are asked when pools are built, so a plugin that raises there is a mistake like one in authpool.toml: at
start the gateway stops and names it, at reload the old configuration stays in force. Hooks that tell of something run
on a thread of their own, in order: there a plugin may be slow, or raise, and no request waits for it.
"""

from pathlib import Path

import pluggy

from authpool.accounts.events import AccountEvent, PoolEvent, PoolExhausted
from authpool.config import PoolConfig
from authpool.config.config_table import ConfigTable
from authpool.config.presets import Preset
from authpool.refresh.token_source import TokenSourceFactory
from authpool.requests.classifier import AnswerClass
from authpool.requests.injector import InjectorFactory
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.rotation.rotation import RotationFactory
from authpool.store import StoreFactory

hookspec = pluggy.HookspecMarker("authpool")


@hookspec
def authpool_configure(options: ConfigTable, home: Path) -> None:
    """Take your table of authpool.toml, ``[plugins.NAME]``; NAME is the plugin's name in `authpool plugins`.

    Called synchronously, at start and at each reload, before the hooks below; with an empty table when there is none.
    Check it with `options.only("key", ...)` and the `take` methods; check all of it before you act on any. Raise
    ConfigurationError for a mistake: at start the gateway stops, at reload the old configuration stays in force. When a
    reload is refused after that, by anybody, it is called once more with the table as it was.
    """


@hookspec(firstresult=True)
def authpool_rotation(name: str) -> RotationFactory | None:
    """Provide the rotation of that name.

    Called synchronously, once for each pool whenever pools are built (start, reload). Return a callable that makes a
    fresh `Rotation` for a pool, or None when the name is not yours. When it raises, the pools are not built: at start
    the gateway stops, at reload the old pools stay.
    """


@hookspec(firstresult=True)
def authpool_token_source(name: str) -> TokenSourceFactory | None:
    """Provide a kind of credential: what `type = "NAME"` or `type = { name = "NAME", ... }` of a pool stands for.

    Called synchronously, a few times for each pool whenever pools are built. Return a callable that makes a fresh
    `TokenSource` for a pool, and raises ConfigurationError when its options are wrong; or None when the name is not
    yours. `refresh_token`, `client_credentials` and `static` are never asked for. When it raises, the pools are not
    built.
    """


@hookspec(firstresult=True)
def authpool_injection(name: str) -> InjectorFactory | None:
    """Provide a way of putting credentials on: what `inject = { name = "NAME", ... }` of a pool stands for.

    A plugin that answers to the name of its token source as well puts on what that fetches; such a pool takes no
    `inject`. Called synchronously, a few times for each pool whenever pools are built. Return a callable that makes a
    fresh `Injector` for a pool, and raises ConfigurationError when its options are wrong; or None when the name is not
    yours. When it raises, the pools are not built.

    The injector is called at the wire, for each attempt of each request of the pool, with the request as it goes out
    and the account that was chosen; what it puts on is on the wire alone, and in no flow. One that raises, or puts on
    nothing, is named in the log with file and line, at most once a minute, and the request is answered with 500
    `gateway_error`: it is never sent without its credential. One that takes over a second three times in a row is asked
    no more until the next reload, and its pool's requests are answered in that way.
    """


@hookspec(firstresult=True)
def authpool_store(name: str) -> StoreFactory | None:
    """Provide the store of that name, for ``[gateway] store = "NAME"`` or ``{ name = "NAME", ... }``.

    Called synchronously, once, by the gateway and by the command line alike. Return a callable that makes an
    `authpool.store.Store` from the home and the options, or None when the name is not yours. When it raises, the
    gateway does not start.
    """


@hookspec(firstresult=True)
def authpool_preset(name: str) -> Preset | None:
    """Provide the preset of that name, for ``preset = "NAME"``.

    Called synchronously, whenever authpool.toml is read. Return None when the name is not yours. authpool's own presets
    are never asked for, so no plugin sends refresh tokens of the preset `google` elsewhere. When it raises, the
    configuration is not taken over.
    """


@hookspec
def authpool_classify_answer(pool: PoolConfig, answer: UpstreamAnswer) -> AnswerClass:
    """Say what an upstream's answer means for its account: "ok", "bad_token", "cooldown" or "forbidden".

    Called synchronously, for each answer to a request of a pool when its headers are there, unless a rule of the pool
    (``[[pools.NAME.answers]]``) fits; the first plugin that does not return None decides, the last one loaded first.
    `answer.body` is None then. Return "wait" to be asked again with the body: the answer is held back until it is
    whole, up to 64 KiB and not where it streams. None: nothing to say; with all None the status decides. The request
    waits: one that raises, takes over a second or says anything else is named in the log, counts as None, and is asked
    no more after three times in a row, until the next reload.
    """


@hookspec
def authpool_account_event(event: AccountEvent) -> None:
    """Hear of a change in an account's life, after it was written.

    Called in the process that made the change, in order, on the thread for such calls (no event loop runs there), soon
    after. The event's account holds live credentials: do not log or keep them. An exception is logged, once for each
    kind of event. While a call hangs nothing else is told; 1,000 events wait, further ones are dropped, and the log
    says so. When the process ends it waits 3 s for what is left.
    """


@hookspec
def authpool_pool_exhausted(event: PoolExhausted) -> None:
    """Hear that no account of a pool could serve a request; of one pool at most once a minute.

    Called as `authpool_account_event` is.
    """


@hookspec
def authpool_pool_event(event: PoolEvent) -> None:
    """Hear that a pool's trouble began or ended: its client is rejected, or its token endpoint is down.

    Each pool's trouble is told once when it begins, and once when it is over, by the process that met it; one that a
    process met before it was started anew is told again if it lasts. Called as `authpool_account_event` is.
    """


@hookspec
def authpool_stop() -> None:
    """Finish what you do in the background: the process ends.

    Called once, as `authpool_account_event` is, after the last event. The process waits 3 s for all plugins together.
    """
