"""newest: the account that came last, until it can't serve."""

from authpool.plugins.api import Rotation, hookimpl, rotation_options


class Newest(Rotation):
    def __init__(self):
        self._accounts = {}

    def add(self, key):
        self._accounts[key] = None

    def remove(self, key):
        del self._accounts[key]

    def choose(self, request, tried):
        return next((key for key in reversed(self._accounts) if key not in tried), None)


def make(pool):
    rotation_options(pool)  # it has none: whoever writes one is told
    return Newest()


@hookimpl
def authpool_rotation(name):
    return make if name == "newest" else None
