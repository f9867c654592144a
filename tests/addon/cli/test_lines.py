"""Lines that come while something else is waited for."""

import asyncio
import os
import tempfile

from authpool.cli.lines import Lines


async def test_lines_come_one_by_one_and_the_last_needs_no_end() -> None:
    """Empty ones are none; a script that sends its answer with `printf` has said it when it closes the pipe."""
    here, there = os.pipe()
    with os.fdopen(here) as stream:
        lines = Lines(stream)
        os.write(there, b"one\r\n\n  two \nth")
        assert [await asyncio.wait_for(lines.read(), 20) for _ in range(2)] == ["one", "two"]
        os.write(there, b"ree")
        os.close(there)
        assert await asyncio.wait_for(lines.read(), 20) == "three"
        lines.close()


async def test_nobody_can_send_a_line_from_a_file_or_a_closed_stream() -> None:
    """It is told, so that nobody is asked to paste anything."""
    with tempfile.TemporaryFile("w+") as stream:
        assert not Lines(stream).any
    assert not Lines(None).any
