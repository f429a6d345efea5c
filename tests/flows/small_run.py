"""The settings of the one run that the tests share, small enough for seconds, and where stores and runs are."""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows.tracking import Run

# The program that tests of flows lean on, and what goes by its scores, wherever the defaults go.
PATTERN = {"gate": "pattern", "loss_weight": "5.0"}
LOW_SCORES = {"selection": "threshold", "threshold": "0.2"}
SMALL = {"epochs": "4", "images_per_class": "1", "scoring_sets": "2", "draws": "2", **PATTERN, **LOW_SCORES}

# Of the run that all share: its network is registered, and the machine is watched.
WATCHED = {**SMALL, "register_as": "small", "system_metrics": "true"}

RunStage = Callable[..., str]


def store_in(place: Path, name: str = "mlflow.db") -> str:
    """The address of the sqlite store of a folder: a new one is a copy, for MLflow takes seconds to make one."""
    file = place / name
    if not file.exists():
        place.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(_empty_store())) as source, closing(sqlite3.connect(file)) as copied:
            source.backup(copied)
    return f"sqlite:///{file}"


@cache
def _empty_store() -> Path:
    """A store without an experiment but MLflow's own, made once in each process."""
    file = Path(tempfile.mkdtemp(prefix="empty-store")) / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


def run_of(client: MlflowClient, run: MlflowRun) -> Run:
    """The run that MLflow describes, as the flows name it."""
    return Run(client.tracking_uri, run.info.experiment_id, run.info.run_id)
