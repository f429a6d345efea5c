"""One real run of the whole pipeline, on a real sqlite store, that the tests of this folder look at."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from prefect.testing.utilities import prefect_test_harness

from flows import tracking
from flows.config.entry_points import ENTRY_POINTS
from flows.execution import runners
from flows.pipelines.flows import run_flow
from flows.pipelines.preparation import prepare_flow
from flows.redaction import REMEMBERED
from tests.flows.small_run import WATCHED, RunStage, store_in


@pytest.fixture(scope="session", autouse=True)
def _outside_any_run() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
            patch.delenv(name, raising=False)
        # Each test does its own work; those about finished work name a folder for it.
        patch.setenv("CRITICAL_NEURONS_CACHE", "none")
        # One fork server for the pools' processes and the tests' own commands.
        patch.setattr(runners, "IMPORTED", ["tests.flows.resume.warm"])
        yield


@pytest.fixture(autouse=True)
def _secrets_as_before() -> Iterator[None]:
    """Forget the secret addresses that a test was given: another's words may happen to be one of them."""
    before = os.environ.get(REMEMBERED)
    yield
    if before is None:
        os.environ.pop(REMEMBERED, None)
    else:
        os.environ[REMEMBERED] = before


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Put the flows' logger back as it was: a command line and a deployment write its lines elsewhere."""
    logger = logging.getLogger("flows")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return store_in(tmp_path_factory.mktemp("store"))


@pytest.fixture
def store(tmp_path: Path) -> tracking.Store:
    """A sqlite store of the test's own."""
    return tracking.open_store(store_in(tmp_path), "tests")


@pytest.fixture(scope="session")
def client(store_uri: str) -> MlflowClient:
    return MlflowClient(store_uri)


@pytest.fixture(scope="session")
def run_stage(prefect_server: None, store_uri: str) -> RunStage:
    """Run an entry point as the command line does; the id of the run on top."""

    def run(name: str, **words: str) -> str:
        settings = prepare_flow(ENTRY_POINTS[name], {"tracking_uri": store_uri, **words})
        return run_flow(name, settings)

    return run


@pytest.fixture(scope="session")
def main_run(run_stage: RunStage, client: MlflowClient) -> MlflowRun:
    with pytest.MonkeyPatch.context() as patch:
        # Seconds between two looks at the machine; the run takes fewer than MLflow's usual ten.
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
        return client.get_run(run_stage("main", **WATCHED))


@pytest.fixture(scope="session")
def stage_runs(main_run: MlflowRun, client: MlflowClient) -> dict[str, MlflowRun]:
    """The nested runs of the main run by their stage."""
    wanted = f"tags.mlflow.parentRunId = '{main_run.info.run_id}'"
    return {run.data.tags["stage"]: run for run in client.search_runs([main_run.info.experiment_id], wanted)}
