"""From the command line to the exit status: the stage put up, the story told, and everything taken down again."""

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from authpool.demo.child import shown_command
from authpool.demo.failure import DemoFailedError
from authpool.demo.narrator import Narrator
from authpool.demo.stage import POOL, Stage, built_stage
from authpool.demo.stop_request import StopRequest, StopRequestedError
from authpool.demo.story import BOB, Story


def main(stop: StopRequest, arguments: Sequence[str] | None = None) -> int:
    """Answer the exit status: 0 told, 1 something did not happen as told, 128 + signal when it was cut short."""
    parser = argparse.ArgumentParser(
        prog="python -m authpool.demo",
        description="An account is revoked, no client notices, and it comes back. Everything runs on this machine, "
        "in a temporary folder, and is gone afterwards.",
    )
    parser.add_argument("--once", action="store_true", help="end after the story; the exit status says if it held")
    once = parser.parse_args(arguments).once
    narrator = Narrator(sys.stdout, os.environ)
    try:
        return _perform(narrator, stop, os.environ, once=once)
    except StopRequestedError:
        narrator.pause()
        narrator.remark("Stopped half-way. Everything has ended and is removed.")
        return stop.exit_status
    except DemoFailedError as failure:
        problem = str(failure)
    except BrokenPipeError:  # whoever read along has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, who watches wants a sentence
        problem = _place_of(error)
    sys.stderr.write(f"\nThe demo failed at {narrator.current}: {problem}\n")
    return 1


def _perform(narrator: Narrator, stop: StopRequest, environ: Mapping[str, str], *, once: bool) -> int:
    narrator.title("authpool: an account is revoked, no client notices, and it comes back.")
    with built_stage(environ, stop) as stage:
        narrator.remark(f"All of it runs on this machine, in {stage.folder}, and is gone afterwards.")
        Story(stage, narrator).tell()
        if not once:
            _stay_up(stage, narrator, stop)
    narrator.pause()
    narrator.remark("Everything has ended and is removed.")
    return 0


def _stay_up(stage: Stage, narrator: Narrator, stop: StopRequest) -> None:
    narrator.pause()
    narrator.title("What to look at next")
    authpool = f"AUTHPOOL_HOME={stage.home} {shown_command()}"
    narrator.pairs(
        {
            "mitmweb": stage.gateway.web_url,
            "a request": f"curl {stage.gateway.url}/hello",
            "without it": f"curl -i {stage.api.url}/hello",
            "the accounts": f"{authpool} accounts",
            "a pause": f"{authpool} pause {POOL}/{BOB}",
            "the files": str(stage.home),
            "the provider": stage.provider.issuer,
        }
    )
    narrator.remark("Ctrl-C ends everything.")
    stop.wait()


def _place_of(error: Exception) -> str:
    """What broke and where; not what it says, for a token may be in it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
