"""Where somebody else's code raised. Its text is never told: it may hold what the code was given."""

from pathlib import Path
from traceback import extract_tb

_OURS = f"{Path(__file__).parent}/"


def raised_at(error: BaseException) -> str:
    """`` in FILE, line N``: the last line of the plugin's own file, rather than of a library that it calls."""
    frames = extract_tb(error.__traceback__, limit=None)
    theirs = [frame for frame in frames if not frame.filename.startswith(_OURS)] or list(frames)
    if not theirs:
        return ""
    where = [frame for frame in theirs if frame.filename == theirs[0].filename][-1]
    return f" in {where.filename}, line {where.lineno}"
