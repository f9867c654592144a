"""The parts every test may ask for. What each of them is: `support`."""

import faulthandler
import itertools
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from authpool.proxy import wire
from support.certificates import CertificateAuthority
from support.clock import FakeClock
from support.node import NodeMissingError, node_is_required
from support.pool_rig import Rig
from support.provider import OidcProvider
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

collect_ignore = ["example_plugin"]  # its tests run where it is installed: test_example_plugin.py
_EXIT_SECONDS = 30.0
_WORKER_EXIT_SECONDS = 600.0

# The tests start hundreds of Pythons. Each would compile every source again where the environment forbids to keep
# bytecode: a second of work for each `mitmdump`, and longer for the tests themselves, in every worker.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How fast examples are made says how busy the machine is, and nothing about the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A soak plays ten times as many: HYPOTHESIS_PROFILE=soak pytest -k fuzz.
settings.register_profile("soak", settings.get_profile("busy"), max_examples=1000)
settings.load_profile("soak" if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else "busy")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """A thread that never ends must not keep the run from ending: it is named, and the run fails.

    One worker of several waits here until the others have run their last test.
    """
    patience = _WORKER_EXIT_SECONDS if "PYTEST_XDIST_WORKER" in os.environ else _EXIT_SECONDS
    faulthandler.dump_traceback_later(patience, exit=True)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests keep outside of their homes goes with them; the programs they start know of it."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _trust_no_ca() -> Iterator[None]:
    """Trust one CA that signed nothing: reading all the world's, for each gateway, takes longer than most tests."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        stranger = CertificateAuthority(Path(name))
        for path, mode in ((stranger.ca_file, 0o644), (Path(name), 0o711)):
            path.chmod(mode)  # programs of the tests may run as other users, and pytest keeps its folders to itself
        patch.setenv("SSL_CERT_FILE", str(stranger.ca_file))
        yield


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is turned."""
    return FakeClock()


@pytest.fixture(scope="session")
def provider() -> Iterator[OidcProvider]:
    """The real provider, rotating and punishing reuse; one for the session, so use `new_account` names."""
    yield from _run_provider(OidcProvider(rotate=True))


@pytest.fixture(scope="session")
def plain_provider() -> Iterator[OidcProvider]:
    """The real provider without rotation: a refresh answers the refresh token it was given."""
    yield from _run_provider(OidcProvider(rotate=False))


def _run_provider(provider: OidcProvider) -> Iterator[OidcProvider]:
    problem = _start(provider)
    if problem and node_is_required():
        pytest.fail(problem, pytrace=False)
    if problem:
        pytest.skip(problem)
    yield provider
    provider.stop()


def _start(provider: OidcProvider) -> str | None:
    """Start it, or tell why this machine can't."""
    try:
        provider.start()
    except NodeMissingError as missing:
        return str(missing)
    return None


@pytest.fixture
def new_account() -> Callable[[], str]:
    """Answers an account name nobody used before, at each call."""
    unique = uuid.uuid4().hex[:8]
    numbers = itertools.count(1)
    return lambda: f"user{next(numbers)}.{unique}@example.com"


@pytest.fixture
def rotating() -> RotatingProvider:
    """The fast in-process provider; served by `token_endpoint`."""
    return RotatingProvider()


@pytest.fixture
async def token_endpoint(rotating: RotatingProvider) -> AsyncIterator[ScriptedTokenEndpoint]:
    """A real token endpoint with `rotating` behind it, until the test gives it another script."""
    async with ScriptedTokenEndpoint(rotating) as endpoint:
        yield endpoint


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """An API over plain HTTP/1.1."""
    async with Upstream() as server:
        yield server


@pytest.fixture
def rig(tmp_path: Path, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint, upstream: Upstream) -> Rig:
    """A home to be written, for a gateway between these."""
    return Rig(folder=tmp_path, provider=rotating, endpoint=token_endpoint, upstream=upstream)


@pytest.fixture(autouse=True)
def _stock_mitmproxy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test left in mitmproxy is taken out of it."""
    yield
    if request.node.get_closest_marker("mitmproxy"):
        wire.uninstall()


@pytest.fixture
async def tls_upstream(authority: CertificateAuthority) -> AsyncIterator[Upstream]:
    """An API over HTTPS, HTTP/1.1."""
    async with Upstream(authority.server_context()) as server:
        yield server


@pytest.fixture
async def http2_upstream(authority: CertificateAuthority) -> AsyncIterator[Upstream]:
    """An API over HTTPS, HTTP/2."""
    async with Upstream(authority.server_context(http2=True)) as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Who signs the upstreams' certificates."""
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where mitmproxy keeps its CA, shared so that it is made once."""
    return tmp_path_factory.mktemp("mitmproxy")
