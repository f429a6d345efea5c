"""The flows' log lines: what a person reads while a flow runs, in a terminal and in the Prefect UI."""

import logging
import sys
import threading
import traceback
from types import TracebackType

from prefect.exceptions import FailedRun
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run

from flows.errors import FlowError
from flows.redaction import redacted
from formulation import FormulationError
from training import TrainingError

MENDABLE = (FlowError, TrainingError, FormulationError)
PREFECT_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")

# What Prefect and MLflow could not send to a server that is away; the error says once that it is.
SENDERS = ("prefect.events.clients", "prefect._internal.concurrency", "urllib3.connectionpool")


class RedactedRecord(logging.LogRecord):
    """A log record whose message and traceback hold no secret, whichever library writes it and wherever it goes."""

    def getMessage(self) -> str:
        """The message, redacted."""
        return redacted(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback that a formatter has left, redacted."""
        return self._traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._traceback = redacted(text) if text else text


def keep_secrets_in() -> None:
    """Let no log line and no traceback of this process show a secret."""
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _write_traceback
    threading.excepthook = lambda given: _write_traceback(given.exc_type, given.exc_value, given.exc_traceback)


def _write_traceback(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, where))))


def one_line(error: BaseException) -> str:
    """An error's text without line breaks and secrets."""
    return redacted(" ".join(str(error).split()))


def write_log_lines() -> None:
    """Write the flows' lines to stdout, and leave out what Prefect would say about them a second time."""
    _write_to(_terminal())
    # Prefect's sender of logs writes its own failures to stderr past every logger, without a line break.
    logging.raiseExceptions = False
    for name in SENDERS:
        logging.getLogger(name).addFilter(lambda record: False)
    for console in logging.getLogger().handlers:
        console.addFilter(_is_news)


def send_log_lines() -> None:
    """Write the flows' lines to stdout and to the Prefect run that they are written in."""
    prefect = APILogHandler()
    # It complains of lines from outside a run, such as those of a flow that is called afterwards.
    prefect.addFilter(lambda record: flow_run.get_id() is not None)
    _write_to(_terminal(), prefect)
    for name in PREFECT_RUN_LOGGERS:
        logging.getLogger(name).addFilter(_in_one_line)


def _terminal() -> logging.Handler:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    return handler


def _write_to(*handlers: logging.Handler) -> None:
    keep_secrets_in()
    logger = logging.getLogger("flows")
    logger.handlers = list(handlers)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record says more than `launch` does.

    Prefect logs a failing task and its flow with a traceback each; the error comes out of the flow as well, and is
    written once: as one line if it is a person's to mend, else by Python with its traceback.
    """
    return not (record.name in PREFECT_RUN_LOGGERS and record.levelno >= logging.ERROR)


def _in_one_line(record: logging.LogRecord) -> bool:
    """Keep every record, but without the traceback of an error that a person can mend.

    FailedRun is what Prefect raises, with the message, for a flow that returned a failed state.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, (*MENDABLE, FailedRun)):
        record.msg, record.args, record.exc_info, record.exc_text = one_line(error), (), None, None
    return True
