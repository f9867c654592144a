from authpool_example import Newest

from authpool.testing.rotations import RotationConformance


class TestNewest(RotationConformance):
    def make(self):
        return Newest()
