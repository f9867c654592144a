"""`python -m authpool.demo [--once]`: the story from end to end, on this machine alone."""

import importlib.util
import sys

from authpool.demo.stop_request import StopRequest

PROVIDER = "oidc_provider_mock"

if __name__ == "__main__":
    stop = StopRequest()
    stop.listen()  # before the slow imports, which would answer Ctrl-C with a traceback
    if importlib.util.find_spec(PROVIDER) is None:
        sys.exit(
            "The demo needs an OAuth provider, the package oidc-provider-mock; install it with: "
            f"{sys.executable} -m pip install oidc-provider-mock"
        )
    from authpool.demo.performance import main

    sys.exit(main(stop))
