"""Everything that touches MLflow: where runs are stored, opening and ending them, writing to and reading from them."""

from flows.tracking.networks import load_logged_network, log_network
from flows.tracking.publishing import contents, known_metrics, publish, recorded_key
from flows.tracking.reading import (
    downloaded,
    find_run,
    find_stage,
    is_finished,
    logged_json,
    logged_metrics,
    logged_rows,
    logged_tags,
    runs_below,
)
from flows.tracking.runs import Run, Writer, end_open_runs, open_flow_run, open_run
from flows.tracking.stores import Store, open_store, reach_store, require_store, store_uri
from flows.tracking.writing import (
    log_dataset,
    log_figure,
    log_files,
    log_json,
    log_metrics,
    log_note,
    log_params,
    log_picture,
    log_table,
    log_tags,
    log_text,
)

__all__ = [
    "Run",
    "Store",
    "Writer",
    "contents",
    "downloaded",
    "end_open_runs",
    "find_run",
    "find_stage",
    "is_finished",
    "known_metrics",
    "load_logged_network",
    "log_dataset",
    "log_figure",
    "log_files",
    "log_json",
    "log_metrics",
    "log_network",
    "log_note",
    "log_params",
    "log_picture",
    "log_table",
    "log_tags",
    "log_text",
    "logged_json",
    "logged_metrics",
    "logged_rows",
    "logged_tags",
    "open_flow_run",
    "open_run",
    "open_store",
    "publish",
    "reach_store",
    "recorded_key",
    "require_store",
    "runs_below",
    "store_uri",
]
