"""The hooks a plugin may implement. Leave out any argument you do not need."""

import pluggy

from authpool.events import AccountEvent
from authpool.rotation import RotationFactory

hookspec = pluggy.HookspecMarker("authpool")


@hookspec(firstresult=True)
def authpool_rotation(name: str) -> RotationFactory | None:
    """Provide the rotation of that name.

    Called once for each pool whenever pools are built (start, reload). Return a callable that makes a fresh
    `authpool.rotation.Rotation` for a pool, or None when the name is not yours. When it raises, the pools are not
    built: at start the gateway stops, at reload the old pools stay.
    """


@hookspec
def authpool_account_event(event: AccountEvent) -> None:
    """Hear of a change in an account's life, after it was written.

    Called in the process that made the change, synchronously: hand long work to a task or a thread of your own.
    The event's account holds live credentials; do not log or keep them. An exception is logged, and nothing else.
    """
