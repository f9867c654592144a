"""What child processes get to see: the home of the demo, this very authpool, and no proxy of anybody's."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authpool.demo.failure import DemoFailedError

_SOURCE_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_SECONDS = 60.0


def child_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """This process's environment without proxies and without authpool's own settings, but for the home."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("AUTHPOOL_")
    }
    # Absolute, for children work in another folder.
    paths = [str(_SOURCE_ROOT), *(os.path.abspath(p) for p in kept.get("PYTHONPATH", "").split(os.pathsep) if p)]
    return kept | {
        "AUTHPOOL_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """The command `authpool`, run in `folder`."""

    folder: Path
    environment: Mapping[str, str] = field(repr=False)

    def run(self, *arguments: str, secrets: Mapping[str, str] | None = None) -> str:
        """Run a verb and answer what it printed; `secrets` are environment variables for it alone.

        Raises DemoFailedError when its exit status is not 0.
        """
        try:
            done = subprocess.run(  # noqa: S603 - the command line is ours
                [*authpool_command(), *arguments],
                cwd=self.folder,
                env={**self.environment, **(secrets or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_SECONDS,
                check=False,
                process_group=0,  # Ctrl-C in the terminal is for the demo alone, which ends what it started
            )
        except subprocess.TimeoutExpired:
            raise DemoFailedError(f"`authpool {' '.join(arguments)}` did not come to an end") from None
        if done.returncode != 0:
            raise DemoFailedError(f"`authpool {' '.join(arguments)}` failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout.rstrip()

    def sign_in(self, *arguments: str, browse: Callable[[str], None]) -> tuple[str, str]:
        """Run a verb that prints an address to sign in at, and let `browse` go there; answers address and answer.

        Raises DemoFailedError when there is no address, or the exit status is not 0.
        """
        shown = f"`authpool {' '.join(arguments)}`"
        with subprocess.Popen(  # noqa: S603 - the command line is ours
            [*authpool_command(), *arguments],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                said = process.stderr or ()
                address = next((line.strip() for line in said if line.startswith("http")), None)
                if address is not None:
                    browse(address)
                out, err = process.communicate(timeout=_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                raise DemoFailedError(f"{shown} did not come to an end") from None
            finally:
                process.kill()
        if address is None or process.returncode != 0:
            raise DemoFailedError(f"{shown} failed: {(err or out).strip()}")
        return address, out.rstrip()


def authpool_command() -> tuple[str, ...]:
    """The command `authpool` of this installation, whether or not a script of that name is installed."""
    return sys.executable, "-m", "authpool"


def shown_command() -> str:
    """The same for a person to copy into a shell."""
    script = Path(sys.executable).with_name("authpool")
    if script.exists():
        return shlex.quote(str(script))
    return f"PYTHONPATH={shlex.quote(str(_SOURCE_ROOT))} {shlex.quote(sys.executable)} -m authpool"
