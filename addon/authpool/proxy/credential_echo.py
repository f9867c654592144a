"""In which forms a request's credential is on the wire, so that an answer may repeat it. Pure."""

from authpool.config.pool_config import BasicInjection, PoolConfig
from authpool.proxy.credential import PLACEHOLDER
from authpool.proxy.echo import Echo
from authpool.proxy.several_echoes import SeveralEchoes


def echo_of(pool: PoolConfig, access_token: str, secrets: tuple[str, ...] = ()) -> Echo:
    """What covers the credential of a request of this pool; `secrets` are what a plugin put on beside it."""
    if secrets:
        return SeveralEchoes([*secrets, access_token], PLACEHOLDER, for_client=pool.redact_echo)
    if isinstance(pool.inject, BasicInjection):
        forms = (pool.inject.encoded(access_token), access_token)
        return SeveralEchoes(forms, PLACEHOLDER, for_client=pool.redact_echo)
    return Echo(access_token, PLACEHOLDER, for_client=pool.redact_echo)
