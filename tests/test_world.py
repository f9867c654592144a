"""No healthy account is ever lost: the refresh protocol in a world where everything goes wrong, in any order.

``HYPOTHESIS_PROFILE=soak`` plays longer, ``WORLD_SOAK_EXAMPLES`` worlds of 80 steps, and says how many it were.
"""

import errno
import os
import time
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from authpool.accounts.account import AccountKey
from support.crashing_process import CrashingProcess
from support.crashing_trail import TRAIL_STEPS
from support.fates import Fate
from support.file_operations import STEPS
from support.world import Edit, World, key_of

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
SEED = 1
SOAK_EXAMPLES = int(os.environ.get("WORLD_SOAK_EXAMPLES", "2000"))
COUNTED = {"worlds": 0, "steps": 0, "posts": 0}

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")
KEYS = [key_of(name) for name in NAMES]
PROVIDERS: list[dict[str, Any]] = [{}, {}, {"grace_seconds": 5.0}, {"rotate": False}]

keys = st.integers(0, 8)
"""Of the accounts that there are: the first six, unless somebody copied, moved or removed some."""
pools = st.sampled_from(["pool", "twin", "twin", "other"])
names = st.sampled_from(NAMES)
numbers = st.integers(0, 7)
hows = st.sampled_from(["plain", "force", "rejected"])
interludes = st.sampled_from(["add", "die and add", "pause", "token_label", "remove", "copy"])
troubles = st.sampled_from([errno.ENOSPC, errno.EROFS, errno.EIO])
fates = st.sampled_from(["answer"] * 6 + list(get_args(Fate.__value__)))


class WorldMachine(RuleBasedStateMachine):
    """Two processes on one folder, six accounts, one operator; hypothesis decides what happens next."""

    world: World

    @initialize(provider=st.sampled_from(PROVIDERS), gateways=st.lists(st.booleans(), min_size=2, max_size=2))
    def begin(self, provider: dict[str, Any], gateways: list[bool]) -> None:
        """Each process is a gateway, which looks after the accounts by itself, or does only what it is told to."""
        self.world = self.new_world(provider)
        for name in NAMES:
            self.world.add(name)
        for number, gateway in enumerate(gateways):
            self.world.start(number, gateway=gateway)
        COUNTED["worlds"] += 1

    def new_world(self, provider: dict[str, Any]) -> World:
        return World(provider)

    # --- refreshes --------------------------------------------------------------------------------------------

    def living(self, number: int) -> CrashingProcess | None:
        alive = [process for process in self.world.processes if not process.dead]
        return alive[number % len(alive)] if alive else None

    def key(self, number: int) -> AccountKey:
        there = self.world.known_keys()
        ordered = [key for key in KEYS if key in there] + [key for key in there if key not in KEYS]
        return ordered[number % len(ordered)] if ordered else KEYS[0]

    @rule(number=numbers, key=keys, how=hows)
    def take_off(self, number: int, key: int, how: str) -> None:
        self.begin_refresh(number, self.key(key), how)

    def begin_refresh(self, number: int, key: AccountKey, how: str) -> None:
        process = self.living(number)
        if process is None or key not in process.seen:
            return
        rejected = process.seen[key].token.access_token if how == "rejected" else None
        self.world.take_off(process, key, force=how == "force", rejected=rejected)

    @rule(number=numbers, fate=fates)
    def land(self, number: int, fate: Fate) -> None:
        if self.world.air:
            COUNTED["posts"] += 1
            self.world.land(self.world.air[number % len(self.world.air)], fate)

    @rule(number=numbers, key=keys, how=hows, played=st.lists(fates, min_size=1, max_size=3))
    def fly(self, number: int, key: int, how: str, played: list[Fate]) -> None:
        """From take-off to landing, retries included."""
        self.take_off(number, key, how)
        for fate in played:
            self.land(-1, fate)
            self.world.check()
            self.world.run(seconds=1.5)

    @rule(number=numbers, key=keys, how=hows, trouble=troubles, played=st.lists(fates, min_size=1, max_size=3))
    def disk_fails_in_flight(self, number: int, key: int, how: str, trouble: int, played: list[Fate]) -> None:
        """The intent is written, and then nothing more."""
        self.world.disk.trouble = None
        self.take_off(number, key, how)
        self.world.disk.trouble = trouble
        for fate in played:
            self.land(-1, fate)
            self.world.check()

    @rule(number=numbers, key=keys, how=hows, edit=interludes, fate=fates)
    def operator_in_flight(self, number: int, key: int, how: str, edit: str, fate: Fate) -> None:
        """Somebody changes the record while the POST is under way."""
        self.take_off(number, key, how)
        if edit == "die and add":
            self.world.revoke(self.key(key).name)
            edit = "add"
        if edit == "copy":
            self.world.copy(self.key(key), AccountKey.of("twin", f"{self.key(key).name}-copy"), noticed=False)
        else:
            self.operate(key, edit)
        self.land(-1, fate)

    @rule(number=numbers, fate=st.sampled_from(["lost_before", "lost_after"]))
    def crash_in_the_air(self, number: int, fate: Fate) -> None:
        if self.world.air:
            COUNTED["posts"] += 1
            self.world.land(self.world.air[number % len(self.world.air)], fate, crash=True)

    @rule(number=numbers, key=keys, step=st.sampled_from(STEPS + TRAIL_STEPS), writes=st.integers(0, 2))
    def crash_at_a_write(self, number: int, key: int, step: str, writes: int) -> None:
        """Of the intent, of the pair, or of a later one; or once all is written but the line in the trail."""
        process = self.living(number)
        if process is not None:
            process.files.step, process.files.writes_left = step, writes
            self.take_off(number, key, "plain")

    @precondition(lambda self: any(process.dead for process in self.world.processes))
    @rule()
    def restart(self) -> None:
        dead = next(number for number, process in enumerate(self.world.processes) if process.dead)
        self.world.start(dead, gateway=self.world.processes[dead].gateway)

    @rule(number=numbers, how=st.sampled_from(["reload", "follow"]))
    def look(self, number: int, how: str) -> None:
        process = self.living(number)
        if process is not None:
            self.world.run(process.load() if how == "reload" else process.follow())

    # --- storms ------------------------------------------------------------------------------------------------

    @rule(client=st.sampled_from(["client", "client", "other"]), over=st.booleans())
    def curse(self, client: str, *, over: bool) -> None:
        """The provider rejects every refresh token of a client, until that is over."""
        (self.world.cursed.discard if over else self.world.cursed.add)(client)

    @rule(number=numbers, how=hows, fate=st.sampled_from(["answer", "lost_after", "unavailable"]), cursed=st.booleans())
    def everybody_is_refreshed(self, number: int, how: str, fate: Fate, *, cursed: bool) -> None:
        """One after the other, from take-off to a verdict, confirmed where it must be; while a client is `cursed`."""
        if cursed:
            self.world.disk.trouble = None
            self.world.cursed.add("client")
        for key in self.world.known_keys():
            self.begin_refresh(number, key, how)
        for played in (fate, "answer", "answer"):
            for _ in range(len(self.world.air)):
                self.land(0, played)
                self.world.check()
            self.world.run(seconds=4.5)
            if how == "plain":
                for key in self.world.known_keys():
                    self.begin_refresh(number, key, how)

    @rule(key=keys)
    def command_line(self, key: int) -> None:
        self.world.command(self.key(key))

    @rule(key=keys, pool=pools, step=st.none() | st.sampled_from(STEPS + TRAIL_STEPS), writes=st.integers(0, 3))
    def move(self, key: int, pool: str, step: str | None, writes: int) -> None:
        self.world.move(self.key(key), pool, step, writes)

    @rule(number=numbers)
    def enable_by_force(self, number: int) -> None:
        disabled = [key for key in self.world.known_keys() if (held := self.world.stored(key)) and held.disabled]
        if disabled:
            self.world.enable_by_force(disabled[number % len(disabled)])

    @rule(pool=st.sampled_from(["pool", "twin", "other"]))
    def resume_pool(self, pool: str) -> None:
        self.world.resume(pool)

    # --- the world and the operator ---------------------------------------------------------------------------

    @rule(what=st.sampled_from([0.5, 3.0, 20.0, 65.0, 700.0, "an hour back", "a day on", "revoke"]), name=names)
    def time_passes(self, what: float | str, name: str) -> None:
        match what:
            case "an hour back":
                self.world.clock.jump(-3600)
            case "a day on":
                self.world.clock.jump(86400)
            case "revoke":
                self.world.revoke(name)
            case float():
                self.world.run(seconds=what)

    @rule(trouble=st.none() | troubles)
    def disk(self, trouble: int | None) -> None:
        self.world.disk.trouble = trouble

    @rule(
        key=keys,
        what=st.sampled_from(
            [
                *get_args(Edit.__value__),
                *("add", "add", "add by hand", "save", "save in flight", "open", "remove", "remove by hand"),
            ]
        ),
    )
    def operate(self, key: int, what: Any) -> None:
        """By hand, without regard to locks."""
        account = self.key(key)
        if what in {"add", "add by hand"}:
            self.world.add(NAMES[key % len(NAMES)], by_hand=what == "add by hand")
        elif self.world.stored(account) is None:
            return
        elif what in {"remove", "remove by hand"}:
            self.world.remove(account, by_hand=what == "remove by hand")
        elif what == "open":
            self.world.open_editor(account)
        elif what in {"save", "save in flight"}:
            ours = [flying for flying in self.world.air if flying.key == account]
            self.world.save_by_rename(account, ours[0] if ours and what == "save in flight" else None)
        else:
            self.world.edit(account, what)

    @rule(key=keys, pool=pools, noticed=st.booleans(), number=numbers)
    def copy(self, key: int, pool: str, number: int, *, noticed: bool) -> None:
        """Into the client's other pool, or under another name; and somebody refreshes it."""
        account = self.key(key)
        if account.pool == "other" or pool == "other":
            pool = account.pool  # a credential is worth nothing at another client
        to = AccountKey.of(pool, account.name if account.pool != pool else f"{account.name}-copy")
        self.world.copy(account, to, noticed=noticed)
        self.begin_refresh(number, to, "force")

    @rule()
    def back_up(self) -> None:
        self.world.back_up()

    @rule(key=st.none() | keys, trail=st.booleans(), clean=st.booleans(), noticed=st.booleans(), number=numbers)
    def restore(self, key: int | None, number: int, *, trail: bool, clean: bool, noticed: bool) -> None:
        """One account's file or all of them; and somebody refreshes one."""
        account = None if key is None else self.key(key)
        self.world.restore(account, trail=trail, clean=clean, noticed=noticed)
        self.begin_refresh(number, account or self.key(number), "force")

    @rule(number=numbers, key=keys, trail=st.booleans(), how=st.sampled_from(["restart", "run on"]))
    def refresh_and_restore(self, number: int, key: int, how: str, *, trail: bool) -> None:
        """What is put back was exchanged meanwhile, whether a gateway knows or not."""
        self.world.disk.trouble = None
        self.world.back_up()
        self.fly(number, key, "force", ["answer"])
        if how == "restart":
            for process in self.world.processes:
                if not process.dead:
                    self.world.kill(process)
        self.world.restore(None, trail=trail, clean=False, noticed=False)
        while any(process.dead for process in self.world.processes):
            self.restart()
        self.take_off(number, key, "force")

    @rule(number=numbers, key=keys, noticed=st.booleans(), first=st.sampled_from(["open", "refresh", "add", "pause"]))
    def an_editor_saves_what_it_loaded(self, number: int, key: int, first: str, *, noticed: bool) -> None:
        """The spent token is back in the file, with whatever else was in it then."""
        account = self.key(key)
        if first == "refresh":
            self.world.disk.trouble = None
            self.world.open_editor(account)
            self.fly(number, key, "force", ["answer"])
        elif first != "open" and self.world.stored(account) is not None:
            self.world.open_editor(account)
            self.operate(key, first)
            self.world.check()  # what the editor is about to replace was there
        self.world.save_editor(account, noticed=noticed)
        self.begin_refresh(number, account, "force")

    # --- what must hold ---------------------------------------------------------------------------------------

    @invariant()
    def promise(self) -> None:
        COUNTED["steps"] += 1
        self.world.check()

    def teardown(self) -> None:
        world = getattr(self, "world", None)
        if world is not None:
            world.end()


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[None]:
    """Say what was played, when it was a soak."""
    began = time.monotonic()
    yield
    if SOAK:
        print(f"\n{COUNTED} in {time.monotonic() - began:.0f} s")


if not SOAK:
    seed(SEED)(WorldMachine)  # the same worlds each time; a soak plays others, and finds more than is mended
TestWorld = WorldMachine.TestCase
TestWorld.__doc__ = "Whatever happens in whatever order, the promise holds."
TestWorld.pytestmark = [pytest.mark.timeout(0 if SOAK else 600)]  # a counterexample takes minutes to make small
TestWorld.settings = settings(
    max_examples=SOAK_EXAMPLES if SOAK else 40,
    stateful_step_count=80 if SOAK else 40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
