"""What every store must be after a process was killed; a part of `authpool.testing.stores.StoreConformance`."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from authpool.store import Store
from authpool.testing.store_place import ALICE, SECONDS, StorePlace, counted, made_account


class CrashConformance(StorePlace):
    """The process that is killed opens the store by the class's import path."""

    @pytest.mark.asyncio
    async def test_a_process_that_dies_leaves_whole_records_and_no_lock(self, store: Store, place: Path) -> None:
        """Killed at a random moment of writing, again and again: the record is an old one or the new one."""
        if not self.shared:
            pytest.skip("no other process can open this store")
        await store.update(ALICE, lambda _: made_account())
        count = 0
        for round_ in range(8):
            await asyncio.to_thread(self._kill_a_writer, place, 0.01 * round_)
            async with asyncio.timeout(SECONDS), store.hold(ALICE):
                account = await store.read(ALICE)
            assert account.token.access_token == "first"
            assert account.extra["label"] == "work"
            assert account.extra.get("count", 0) >= count
            count = account.extra.get("count", 0)
            assert set(await self.open(place).load(["p"])) == {ALICE}
        assert count > 0

    def _kill_a_writer(self, place: Path, after_seconds: float) -> None:
        """Start a process that holds the lock and writes without end, let it begin, and kill it."""
        kind = type(self)
        paths = os.pathsep.join([str(Path(str(sys.modules[kind.__module__].__file__)).parent), *sys.path])
        process = subprocess.Popen(
            [sys.executable, "-m", "authpool.testing.writing_process", kind.__module__, kind.__qualname__, str(place)],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            time.sleep(after_seconds)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()


async def write_for_ever(store: Store) -> None:
    """What the process that is killed does."""
    async with store.hold(ALICE):
        await store.update(ALICE, counted)
        print("writing", flush=True)  # noqa: T201 - that is how the test knows
        while True:
            await store.update(ALICE, counted)
