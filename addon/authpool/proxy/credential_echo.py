"""In which forms a request's credential is on the wire, so that an answer may repeat it. Pure."""

from authpool.config.pool_config import BasicInjection, PoolConfig
from authpool.proxy.credential import PLACEHOLDER
from authpool.proxy.echo import Echo
from authpool.proxy.several_echoes import SeveralEchoes


def forms_sent(pool: PoolConfig, access_token: str, secrets: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The forms of a request of this pool; `secrets` are what a plugin put on beside the token."""
    if isinstance(pool.inject, BasicInjection):
        return (pool.inject.encoded(access_token), access_token)
    return (*secrets, access_token) if secrets else (access_token,)


def echo_of(forms: tuple[str, ...], *, for_client: bool) -> Echo:
    """What covers all of these, one after the other."""
    if len(forms) == 1:
        return Echo(forms[0], PLACEHOLDER, for_client=for_client)
    return SeveralEchoes(forms, PLACEHOLDER, for_client=for_client)
