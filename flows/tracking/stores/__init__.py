"""Tracking stores: their addresses, whether they answer, and SQLite files that are whole before they are there.

Everything is asked before MLflow's own attempts, which take minutes.
"""

from flows.tracking.stores.addresses import SQLITE, scheme_of, shown, store_uri
from flows.tracking.stores.opening import (
    Store,
    open_store,
    probe_store,
    reach_store,
    reached,
    require_store,
    settle_mlflow,
)
from flows.tracking.stores.views import run_page, view_page

__all__ = [
    "SQLITE",
    "Store",
    "open_store",
    "probe_store",
    "reach_store",
    "reached",
    "require_store",
    "run_page",
    "scheme_of",
    "settle_mlflow",
    "shown",
    "store_uri",
    "view_page",
]
