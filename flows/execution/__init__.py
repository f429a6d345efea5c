"""Execution: stages as Prefect tasks, done once per key, mapped over threads, processes or a Dask cluster.

Interruption and log lines belong here.
"""

from flows.execution.interruption import end_at_once, run_interruptibly
from flows.execution.keys import identity_of
from flows.execution.linking import prefect_tags, progress_of, show_in_prefect
from flows.execution.log_lines import MENDABLE, keep_secrets_in, one_line, send_log_lines, write_log_lines
from flows.execution.mapping import map_tasks
from flows.execution.recording import publish_settings
from flows.execution.runners import require_runner
from flows.execution.vanished import Services, services_of, vanishing

__all__ = [
    "MENDABLE",
    "Services",
    "end_at_once",
    "identity_of",
    "keep_secrets_in",
    "map_tasks",
    "one_line",
    "prefect_tags",
    "progress_of",
    "publish_settings",
    "require_runner",
    "run_interruptibly",
    "send_log_lines",
    "services_of",
    "show_in_prefect",
    "vanishing",
    "write_log_lines",
]
