"""Everything the story needs, put up in a folder of its own and taken down without a trace."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from authpool.accounts.name import encode_name
from authpool.config import CONFIG_NAME
from authpool.demo.api import Api, running_api
from authpool.demo.child import CommandLine, child_environment
from authpool.demo.gateway import Gateway, running_gateway
from authpool.demo.provider import CLIENT_ID, SCOPES, Provider, running_provider
from authpool.demo.stop_request import StopRequest

POOL = "demo"
FOLDER_PREFIX = "authpool-demo-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The parts, all running. `home` is the gateway's; `folder` holds it and the users' files."""

    folder: Path
    home: Path
    provider: Provider
    api: Api
    gateway: Gateway
    authpool: CommandLine
    stop: StopRequest

    def account_file(self, name: str) -> Path:
        """Where the account of this name is kept."""
        return self.home / "accounts" / POOL / f"{encode_name(name)}.toml"


@contextlib.contextmanager
def built_stage(environ: Mapping[str, str], stop: StopRequest) -> Iterator[Stage]:
    """Start everything on free ports of this machine, and end it all, in order, whatever happens."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)))
        provider = stack.enter_context(running_provider())
        api = stack.enter_context(running_api(provider.userinfo_url))
        home = folder / "home"
        home.mkdir(mode=0o700)
        (home / CONFIG_NAME).write_text(_configuration(provider, api))
        environment = child_environment(environ, home)
        gateway = stack.enter_context(running_gateway(folder, api.url, environment, stop))
        yield Stage(
            folder=folder,
            home=home,
            provider=provider,
            api=api,
            gateway=gateway,
            authpool=CommandLine(folder=folder, environment=environment),
            stop=stop,
        )


def _configuration(provider: Provider, api: Api) -> str:
    scopes = ", ".join(f'"{scope}"' for scope in SCOPES)
    return (
        f"[pools.{POOL}]\n"
        f'issuer = "{provider.issuer}"\n'
        f'client_id = "{CLIENT_ID}"\n'
        f"scopes = [{scopes}]\n"
        f'hosts = ["{api.address}"]\n'
    )
