"""Opening a tracking store: an explicit, absolute address, because MLflow's own default follows the current folder."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import mlflow
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import ArtifactError, StoreError
from flows.redaction import reason_of
from flows.tracking.stores.addresses import is_sqlite, path_of, shown
from flows.tracking.stores.answers import require_answer
from flows.tracking.stores.databases import claimed, state_of
from flows.tracking.stores.views import offer_view

ENVIRONMENT, DATABASE = "mlflow.utils.environment", "mlflow.store.db.utils"
TAKEN = "RESOURCE_ALREADY_EXISTS"
RETRIES = 1
# What MLflow and what it stands on raise, where they do not say it in an exception of MLflow's.
FAULTS = (MlflowException, OSError, SQLAlchemyError, CommandError)


@dataclass(frozen=True)
class Store:
    """A tracking store, the experiment that runs go to, and the run that `mlflow run` has opened, if it has."""

    uri: str = field(repr=False)
    experiment_id: str
    run_id: str = ""


def open_store(uri: str, experiment: str) -> Store:
    """The store at an address of :func:`store_uri`, with the experiment of that name, made where it is missing.

    The experiment gets a view of its runs that the UI opens by a link.

    Under `mlflow run` the experiment and the run are those that it has chosen.
    Raises StoreError where the store cannot be opened.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    with _opened(uri) as client:
        chosen = client.get_run(run_id).info.experiment_id if run_id else _experiment_id(client, uri, experiment)
        offer_view(client, chosen, client.get_experiment(chosen).tags)
        return Store(uri, chosen, run_id)


def reach_store(uri: str) -> None:
    """Raise StoreError where a store to read from cannot be opened; writes nothing to one that exists."""
    with _opened(uri) as client:
        client.search_experiments(max_results=1)


def probe_store(uri: str) -> None:
    """Raise StoreError where a store cannot be used, as far as that shows within seconds; nothing is written."""
    settle_mlflow()
    require_answer(uri)
    if not is_sqlite(uri):
        return
    try:
        state_of(path_of(uri))
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"tracking store {uri} cannot be opened: {reason_of(error, uri)}; see tracking_uri") from error


def require_store(uri: str, what: str) -> None:
    """Raise ArtifactError, on behalf of a parameter `what`, where a database to read from does not exist.

    MLflow would make an empty one.
    """
    if is_sqlite(uri) and not path_of(uri).exists():
        raise ArtifactError(f"{what}: there is no tracking store {uri}; name it by tracking_uri")


def settle_mlflow() -> None:
    """Leave out what MLflow says on every use, and try a server that does not answer once more only."""
    # The first use of a sqlite store lists some sixty migrations, every small download draws a bar, and an environment
    # made by uv has no pip. What goes wrong in a database is raised as well as written, there with a traceback.
    levels = {
        "alembic": logging.WARNING,
        "mlflow": logging.WARNING,
        ENVIRONMENT: logging.ERROR,
        DATABASE: logging.CRITICAL,
    }
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    # MLflow prints the address of a run's page, with the password that it was given.
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    # MLflow tries a server that does not answer for minutes. Here nothing is lost with it: what is done is on disk.
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(RETRIES)


@contextmanager
def reached(uri: str) -> Iterator[MlflowClient]:
    """A client of the store; raises StoreError where it does not answer, or refuses what it is asked for."""
    try:
        yield MlflowClient(uri)
    except FAULTS as error:
        raise StoreError(
            f"tracking store {shown(uri)} cannot be used: {reason_of(error, uri)}; when it can again, the same "
            f"command goes on from here"
        ) from error


@contextmanager
def _opened(uri: str) -> Iterator[MlflowClient]:
    settle_mlflow()
    try:
        require_answer(uri)
        mlflow.set_tracking_uri(uri)
        with claimed(path_of(uri)) if is_sqlite(uri) else nullcontext():
            yield MlflowClient(uri)
    except (*FAULTS, sqlite3.Error) as error:
        raise StoreError(
            f"tracking store {shown(uri)} cannot be opened: {reason_of(error, uri)}; see tracking_uri"
        ) from error


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(uri)))
        except MlflowException as error:
            if error.error_code != TAKEN:
                raise
            # Another process has made it since.
            return _experiment_id(client, uri, name)
    if found.lifecycle_stage != "active":
        raise StoreError(f"experiment {name!r} in {uri} is deleted: restore it or give another experiment")
    return str(found.experiment_id)


def _artifact_location(uri: str) -> str | None:
    # Beside the database; MLflow's default is the folder the first run happens to start in.
    return (path_of(uri).parent / "mlruns").as_uri() if is_sqlite(uri) else None
