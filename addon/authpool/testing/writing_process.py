"""A process that writes to a store without end, to be killed: ``python -m ... MODULE CLASS PLACE``."""

import asyncio
import importlib
import sys
from pathlib import Path

from authpool.testing.crashes import write_for_ever

if __name__ == "__main__":
    module, name, place = sys.argv[1:]
    asyncio.run(write_for_ever(getattr(importlib.import_module(module), name).open(Path(place))))
