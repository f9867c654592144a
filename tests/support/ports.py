"""Ports for programs that have to be told one."""

import random
import socket

_LOWEST, _HIGHEST = 10_000, 32_000
"""Below those that systems give to whoever asks for any: one that is free stays free until the program has it."""
_rng = random.SystemRandom()
"""Tests that run side by side have the same seed."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    while True:
        port = _rng.randrange(_LOWEST, _HIGHEST)
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
