"""`python -m flows serve`: every flow offered in the Prefect UI and run on this machine, without a work pool."""

import atexit
import os
import signal
import sys
import warnings

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL
from prefect.types.entrypoint import EntrypointType

from flows.pipelines.deployments import OFFERED, offered_flow
from flows.redaction import redacted


def serve_flows() -> int:
    """Wait for runs and start each in a process of its own, until Ctrl-C."""
    print(f"serving {', '.join(OFFERED)} to {redacted(str(PREFECT_API_URL.value()))}; Ctrl-C ends it", flush=True)
    offers = [
        RunnerDeployment.from_flow(offered_flow(name), name="served", entrypoint_type=EntrypointType.MODULE_PATH)
        for name in OFFERED
    ]
    # Prefect ends at once by SIGTERM; by Ctrl-C it may first wait for a run that was just cancelled.
    signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    # What Prefect begins by that signal it leaves unawaited as it exits, and Python says so.
    warnings.filterwarnings("ignore", r"coroutine 'Runner\.astop' was never awaited", RuntimeWarning)
    atexit.register(_say_the_end)
    serve(*offers, print_starting_message=False)
    return 0


def _say_the_end() -> None:
    print("serving has ended", file=sys.stderr, flush=True)
