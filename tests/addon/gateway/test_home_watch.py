"""A home that is opened to others while a gateway runs is said at once, and refused at a reload and a start."""

from pathlib import Path

import pytest

from authpool.errors import AuthpoolError
from authpool.gateway.home_watch import HomeWatch
from authpool.gateway.service import Service
from support.gateway import Mitmdump
from support.home import make_home
from support.pool_rig import Rig, gateway_master

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")
POOL = {"token_url": "https://op.example/t", "client_id": "me", "hosts": ["api.example.com"]}


@pytest.mark.mitmproxy
@pytest.mark.parametrize("part", (".", "..", "authpool.toml"))
async def test_it_is_said_once_and_when_it_is_over(rig: Rig, tmp_path: Path, part: str) -> None:
    """The home itself, the folder around it, and the file that says where credentials go."""
    home = rig.home("alice")
    path = home / part
    mode = path.stat().st_mode & 0o7777
    async with gateway_master(home) as gateway:
        path.chmod(0o777)
        await gateway.wait_until(
            lambda: any("Others may change what this gateway obeys" in m for m in gateway.messages)
        )
        path.chmod(mode)
        await gateway.wait_until(lambda: any("Nobody else may change" in m for m in gateway.messages))
        told = [m for m in gateway.messages if "Others may change" in m]
    assert len(told) == 1
    assert "chmod" in told[0]


@pytest.mark.parametrize("part", (".", "..", "authpool.toml"))
async def test_a_reload_is_refused(tmp_path: Path, part: str) -> None:
    """What serves goes on serving."""
    home = make_home(tmp_path, pools={"p": POOL})
    service = Service(home, {})
    await service.start()
    before = service.snapshot
    (home / part).chmod(0o777)
    with pytest.raises(AuthpoolError, match="chmod"):
        await service.reload(forced=True)
    assert service.snapshot is before
    (home / part).chmod(0o700)
    await service.reload()
    await service.stop()


@pytest.mark.mitmproxy
@pytest.mark.parametrize("part", ("..", "authpool.toml"))
async def test_a_start_is_refused(rig: Rig, confdir: Path, part: str) -> None:
    """With a line that says what to do."""
    home = rig.home("alice")
    mode = (home / part).stat().st_mode & 0o7777
    (home / part).chmod(0o777)
    running = Mitmdump("-s", SCRIPT, home=home, confdir=confdir)
    said = await running.run_to_its_end()
    (home / part).chmod(mode)
    assert "chmod go-w" in said


@pytest.mark.parametrize("name", ("authpool.toml", "accounts"))
def test_a_part_that_becomes_a_link_is_looked_at_all_the_way(tmp_path: Path, name: str) -> None:
    """In between two looks it is put where everybody can exchange it."""
    home = make_home(tmp_path / "below", pools={"p": POOL})
    (home / "accounts").mkdir(mode=0o700, exist_ok=True)
    watch = HomeWatch(home)
    assert watch.look() == ""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (home / name).rename(elsewhere / name)
    (home / name).symlink_to(elsewhere / name)
    assert watch.look() == ""
    elsewhere.chmod(0o777)
    assert f"others may write {elsewhere} " in watch.look()
    elsewhere.chmod(0o700)
    assert watch.look() == ""
