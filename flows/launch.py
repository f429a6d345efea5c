"""Starting a flow from the command line: log lines, interruption, and one line for every error a person can cause."""

import logging
import sys
from collections.abc import Mapping

import httpx
from prefect.settings import PREFECT_API_URL

from flows import tracking
from flows.entry_points import EntryPoint
from flows.interruption import end_at_once, run_interruptibly
from flows.log_lines import MENDABLE, one_line, write_log_lines
from flows.pipeline import run_flow
from flows.preparation import prepare


def launch(point: EntryPoint, words: Mapping[str, str]) -> int:
    """Run a flow; 0, or 2 after a line on stderr for an error that its caller can mend. Others keep their traceback."""
    write_log_lines()
    try:
        settings = prepare(point, words)
        uri = tracking.store_uri(settings.tracking_uri)
        run_id = run_interruptibly(lambda: run_flow(point.name, settings), uri)
    except MENDABLE as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except httpx.TransportError as error:
        print(f"error: {_gone(one_line(error))}; see what the flow did in {uri}, and start the server", file=sys.stderr)
        end_at_once(2)
    logging.getLogger("flows").info("done     run %s in %s", run_id, uri)
    return 0


def _gone(reason: str) -> str:
    # Tasks go on without the server: what fails is to tell it how a flow begins or ends.
    return f"Prefect server {PREFECT_API_URL.value() or 'of this process'} went away in the middle ({reason})"
