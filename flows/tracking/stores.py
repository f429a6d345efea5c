"""Where runs are stored: an explicit, absolute address, because MLflow's own default follows the current folder."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException

from flows.errors import HandOverError, SettingsError, StoreError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SQLITE = "sqlite:///"
ENVIRONMENT, DATABASE = "mlflow.utils.environment", "mlflow.store.db.utils"
OPENING = 120.0  # seconds that another process may take to make a new database
TAKEN = "RESOURCE_ALREADY_EXISTS"
RETRIES = 1
LONGEST = 300  # characters of a store's own words that a person is told


@dataclass(frozen=True)
class Store:
    """A tracking store, the experiment that runs go to, and the run that `mlflow run` has opened, if it has."""

    uri: str
    experiment_id: str
    run_id: str = ""


def store_uri(given: str) -> str:
    """The store's address: as given, else $MLFLOW_TRACKING_URI, else `mlflow.db` in the project's root; absolute.

    Raises SettingsError where `mlflow run` has opened its run in another store than the one given.
    """
    chosen = os.environ.get("MLFLOW_TRACKING_URI", "")
    uri = _absolute(given or chosen or f"{SQLITE}{PROJECT_ROOT / 'mlflow.db'}")
    if os.environ.get("MLFLOW_RUN_ID") and uri != _absolute(chosen):
        raise SettingsError(
            f"tracking_uri={given}: mlflow run has opened its run in {chosen}; set MLFLOW_TRACKING_URI for it instead"
        )
    return uri


def open_store(uri: str, experiment: str) -> Store:
    """The store at an address of :func:`store_uri`, with the experiment of that name, made where it is missing.

    Under `mlflow run` the experiment and the run are those that it has chosen.
    Raises StoreError where the store cannot be opened.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    with _opened(uri) as client:
        chosen = client.get_run(run_id).info.experiment_id if run_id else _experiment_id(client, uri, experiment)
        return Store(uri, chosen, run_id)


def reach_store(uri: str) -> None:
    """Raise StoreError where a store to read from cannot be opened; writes nothing to one that exists."""
    with _opened(uri) as client:
        client.search_experiments(max_results=1)


def require_store(uri: str, what: str) -> None:
    """Raise HandOverError, on behalf of a parameter `what`, where a database to read from does not exist.

    MLflow would make an empty one.
    """
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise HandOverError(f"{what}: there is no tracking store {uri}; name it by tracking_uri")


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
    # MLflow tries a server that does not answer for minutes. Here nothing is lost with it: what is done is on disk.
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(RETRIES)


@contextmanager
def reached(uri: str) -> Iterator[MlflowClient]:
    """A client of the store; raises StoreError where it does not answer, or refuses what it is asked for."""
    try:
        yield MlflowClient(uri)
    except (MlflowException, OSError) as error:
        raise StoreError(
            f"tracking store {uri} cannot be used: {_reason(error)}; when it can again, the same command goes on from "
            f"here"
        ) from error


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"{reason[:LONGEST]} ..." if len(reason) > LONGEST else reason


@contextmanager
def _opened(uri: str) -> Iterator[MlflowClient]:
    settle_mlflow()
    try:
        mlflow.set_tracking_uri(uri)
        with _claimed(uri):
            yield MlflowClient(uri)
    except (MlflowException, OSError, sqlite3.Error) as error:
        raise StoreError(f"tracking store {uri} cannot be opened: {_reason(error)}; see tracking_uri") from error


@contextmanager
def _claimed(uri: str) -> Iterator[None]:
    """The right to open a database: two processes that make the tables of a new one at once leave half of them."""
    if not uri.startswith(SQLITE):
        yield
        return
    path = Path(uri.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    # MLflow tries a database that cannot be opened for half an hour; a lock is waited for where no file can be made.
    with closing(sqlite3.connect(path, timeout=OPENING)) as database:
        database.execute("BEGIN IMMEDIATE")
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=OPENING):
        yield


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
    return (Path(uri.removeprefix(SQLITE)).parent / "mlruns").as_uri() if uri.startswith(SQLITE) else None


def _absolute(uri: str) -> str:
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}" if uri.startswith(SQLITE) else uri
