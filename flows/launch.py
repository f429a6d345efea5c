"""Starting a flow from the command line: log lines, interruption, and one line for every error a person can cause."""

import logging
import sys
from collections.abc import Mapping

from flows import tracking
from flows.entry_points import EntryPoint
from flows.errors import FlowError
from flows.interruption import run_interruptibly
from flows.pipeline import run_flow
from flows.preparation import prepare
from formulation import FormulationError
from training import TrainingError

PREFECT_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def launch(point: EntryPoint, words: Mapping[str, str]) -> int:
    """Run a flow; 0, or 2 after a line on stderr for an error that its caller can mend. Others keep their traceback."""
    _write_log_lines()
    try:
        settings = prepare(point, words)
        uri = tracking.store_uri(settings.tracking_uri)
        run_id = run_interruptibly(lambda: run_flow(point.name, settings), uri)
    except (FlowError, TrainingError, FormulationError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    logging.getLogger("flows").info("done     run %s in %s", run_id, uri)
    return 0


def _write_log_lines() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("flows")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for console in logging.getLogger().handlers:
        console.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record says more than `launch` does.

    Prefect logs a failing task and its flow with a traceback each; the error comes out of the flow as well, and is
    written once: as one line if it is a person's to mend, else by Python with its traceback.
    """
    return not (record.name in PREFECT_RUN_LOGGERS and record.levelno >= logging.ERROR)
