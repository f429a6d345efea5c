"""Opening and ending runs: every run ends as FINISHED, FAILED or KILLED, in whatever thread it lives."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities import ViewType

from flows.tracking.stores import Store

PROCESS_TAG = "process"


@dataclass(frozen=True)
class Run:
    """An MLflow run by its address: all that tasks hand to each other."""

    uri: str
    experiment_id: str
    run_id: str


@contextmanager
def open_flow_run(store: Store, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """The run on top: the one that `mlflow run` has opened, or a new one."""
    tags = {**tags, PROCESS_TAG: _process()}
    if store.run_id:
        # Without arguments: so MLflow takes the run id out of the environment, where a nested run would find it again.
        mlflow.start_run()
        run = Run(store.uri, store.experiment_id, store.run_id)
        client = MlflowClient(store.uri)
        for key, value in {**tags, "mlflow.runName": name}.items():
            client.set_tag(run.run_id, key, value)
    else:
        opened = mlflow.start_run(experiment_id=store.experiment_id, run_name=name, tags=tags)
        run = Run(store.uri, store.experiment_id, opened.info.run_id)
    with _ended(run):
        yield run


@contextmanager
def open_run(parent: Run, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """A run nested below another; the parent is named because the active run is known in its own thread only."""
    mlflow.set_tracking_uri(parent.uri)
    opened = mlflow.start_run(
        nested=True,
        parent_run_id=parent.run_id,
        experiment_id=parent.experiment_id,
        run_name=name,
        tags={**tags, PROCESS_TAG: _process()},
    )
    run = Run(parent.uri, parent.experiment_id, opened.info.run_id)
    with _ended(run):
        yield run


def end_open_runs(uri: str, status: str) -> int:
    """End every run that this process has open, in whatever thread; how many there were."""
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments(view_type=ViewType.ALL)]
    wanted = f"attributes.status = 'RUNNING' and tags.{PROCESS_TAG} = '{_process()}'"
    found = client.search_runs(experiments, wanted)
    for run in found:
        client.set_terminated(run.info.run_id, status)
    return len(found)


@contextmanager
def _ended(run: Run) -> Iterator[None]:
    start = time.monotonic()
    # What is no Exception is an order to stop: KeyboardInterrupt, or Prefect's own where it takes SIGTERM itself.
    status = "KILLED"
    try:
        try:
            yield
        finally:
            MlflowClient(run.uri).log_metric(run.run_id, "seconds", time.monotonic() - start)
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        mlflow.end_run(status)


def _process() -> str:
    return f"{socket.gethostname()} {os.getpid()}"
