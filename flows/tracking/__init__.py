"""Tracking: everything that touches MLflow.

Where runs are stored, opening and ending them, publishing records to them and reading from them.
"""

from flows.tracking.logged_run import Run, each_run_asked_once
from flows.tracking.networks import load_logged_network, log_network, show_model
from flows.tracking.publishing import known_metrics, publish, recorded_key
from flows.tracking.reading import find_run, find_stage, is_whole
from flows.tracking.registry import (
    COST,
    IMAGES,
    IMAGES_DIGEST,
    SOURCE,
    VALIDATION,
    NewVersion,
    register_network,
    require_registry,
)
from flows.tracking.runs import LiveMetrics, end_open_runs, hold_runs, open_flow_run, open_run
from flows.tracking.stores import (
    Store,
    open_store,
    probe_store,
    reach_store,
    require_store,
    settle_mlflow,
    store_uri,
)
from flows.tracking.writing import entries_of, log_params, publish_unfinished, teller, telling_at_once

__all__ = [
    "COST",
    "IMAGES",
    "IMAGES_DIGEST",
    "SOURCE",
    "VALIDATION",
    "LiveMetrics",
    "NewVersion",
    "Run",
    "Store",
    "each_run_asked_once",
    "end_open_runs",
    "entries_of",
    "find_run",
    "find_stage",
    "hold_runs",
    "is_whole",
    "known_metrics",
    "load_logged_network",
    "log_network",
    "log_params",
    "open_flow_run",
    "open_run",
    "open_store",
    "probe_store",
    "publish",
    "publish_unfinished",
    "reach_store",
    "recorded_key",
    "register_network",
    "require_registry",
    "require_store",
    "settle_mlflow",
    "show_model",
    "store_uri",
    "teller",
    "telling_at_once",
]
