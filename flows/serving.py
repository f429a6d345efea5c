"""`python -m flows serve`: every flow offered in the Prefect UI and run on this machine, without a work pool."""

import sys

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.deployed import DEPLOYED
from flows.errors import ServerError
from flows.server import require_server


def serve_flows() -> int:
    """Wait for runs and start each in a process of its own, until Ctrl-C; 2 where there is no server to ask."""
    try:
        url = require_server()
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"serving {', '.join(DEPLOYED)} to {url}; Ctrl-C ends it", flush=True)
    offers = [
        RunnerDeployment.from_flow(flow, name="served", entrypoint_type=EntrypointType.MODULE_PATH)
        for flow in DEPLOYED.values()
    ]
    serve(*offers, print_starting_message=False)
    return 0
