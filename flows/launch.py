"""Starting a flow from the command line: log lines, interruption, and one line for every error a person can cause."""

import logging
import os
import sys
from collections.abc import Mapping

from flows import tracking
from flows.config import EntryPoint
from flows.errors import FlowError, ServerError
from flows.execution import (
    MENDABLE,
    Services,
    end_at_once,
    one_line,
    run_interruptibly,
    vanishing,
    write_log_lines,
)
from flows.own_server import end_own_server
from flows.pipelines import outcome_of, prepare_flow, run_flow
from flows.redaction import redacted

LOG = logging.getLogger("flows")
PATIENCE = 5.0  # seconds for a server that nothing has asked to end


def launch(point: EntryPoint, words: Mapping[str, str]) -> int:
    """Run a flow; 0, or 2 after a line on stderr for an error that its caller can mend. Others keep their traceback.

    3 where `check` finds that all solutions hold and a gap was left open.
    """
    write_log_lines()
    begun = False
    try:
        uri = tracking.store_uri(words.get("tracking_uri", ""))
        with vanishing(Services(uri, words.get("dask_address", ""))):
            # `mlflow run` passes every parameter, chosen or not.
            settings = prepare_flow(point, words, all_given="MLFLOW_RUN_ID" in os.environ)
            begun = True
            run_id = run_interruptibly(lambda: run_flow(point.name, settings), uri)
            for line in outcome_of(uri, run_id):
                LOG.info("result   %s", line)
    except MENDABLE as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        if begun and isinstance(error, ServerError):
            # Threads of Prefect's would try the server for more than a minute.
            end_at_once(2)
        if not begun:
            end_own_server(PATIENCE)
        return error.exit_code if isinstance(error, FlowError) else 2
    LOG.info("done     run %s in %s", run_id, redacted(uri))
    return 0
