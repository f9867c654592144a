"""Giving a store the operator's key that the configuration names."""

from authpool.config.config_table import mistake
from authpool.config.seal_key import PATH, SealKey
from authpool.errors import ConfigurationError
from authpool.store import SealsSecrets, Store
from authpool.store.sealing.key_ring import OperatorKey

NO_KEY = "the accounts are sealed, and authpool.toml has no seal_key"


def sealed(store: Store, seal_key: SealKey | None, *, must_open: bool) -> Store:
    """The store, sealing with the key that is configured, if there is one. Raises ConfigurationError.

    `must_open`: a key that is not at hand, or does not fit, is a mistake; else the store tells it for each account.
    """
    if not isinstance(store, SealsSecrets):
        if seal_key is not None:
            raise mistake(PATH, "is of no use: this store keeps nothing sealed.", "Remove it, or use another store.")
        return store
    operator, no_key = None, NO_KEY
    if seal_key is not None:
        try:
            operator = OperatorKey(seal_key.resolve())
        except ConfigurationError as error:
            if must_open:
                raise
            no_key = str(error)
    why = store.seal_with(operator, no_key=no_key)
    if why and must_open:
        raise mistake(PATH, f"does not open what is sealed: {why}.", _REMEDY if seal_key else _REMEDY_WITHOUT)
    return store


_REMEDY = "Name the key that it was sealed with, or put sealing.toml back from a copy of the home."
_REMEDY_WITHOUT = "Name the key that they were sealed with."
