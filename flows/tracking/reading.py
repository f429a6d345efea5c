"""Reading what earlier runs logged."""

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import mlflow.pytorch
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from torch import nn

from flows.errors import HandOverError
from flows.tracking.runs import Run
from flows.tracking.stores import quieten_mlflow, require_store

STAGE_TAG = "stage"
SOURCE_TAG = "from."


def find_run(uri: str, run_id: str) -> Run:
    """The run of that id in the store at `uri`; raises HandOverError where there is none."""
    try:
        found = MlflowClient(uri).get_run(run_id)
    except MlflowException as error:
        raise HandOverError(
            f"run_id={run_id}: no such run in {uri}; copy the id from the UI, or name its store by tracking_uri"
        ) from error
    return Run(uri, found.info.experiment_id, run_id)


def is_finished(run: Run) -> bool:
    """Whether a run has ended, and well."""
    return bool(MlflowClient(run.uri).get_run(run.run_id).info.status == "FINISHED")


def find_stage(run: Run, *stages: str) -> Run:
    """The finished run of a stage that belongs to a run: itself, the one it came from, below it, or beside it.

    Of several stages that of the run itself, else the first that is found. The run it came from may lie in another
    experiment.
    Raises HandOverError that says which stage to run first.
    """
    tags = MlflowClient(run.uri).get_run(run.run_id).data.tags
    own = tags.get(STAGE_TAG, "")
    for stage in (own,) if own in stages else stages:
        for each in _belonging(run, tags, stage):
            if is_finished(each):
                return each
    wanted = " or ".join(stages)
    remedy = f"give the run of a finished {wanted}, or one above it"
    raise HandOverError(f"run_id={run.run_id}: neither it nor a run below it is a finished {wanted} stage; {remedy}")


def _belonging(run: Run, tags: Mapping[str, str], stage: str) -> list[Run]:
    if tags.get(STAGE_TAG) == stage:
        return [run]
    if source := tags.get(SOURCE_TAG + stage):
        return [find_run(run.uri, source)]
    parents = [run.run_id, tags.get("mlflow.parentRunId", "")]
    return [below for parent in parents if parent for below in _below(run, parent, stage)]


def runs_below(run: Run, stage: str) -> list[Run]:
    """The runs of a stage that are nested directly below a run, oldest first."""
    return _below(run, run.run_id, stage)[::-1]


def logged_json(run: Run, file: str) -> dict[str, object]:
    """A JSON object that a run logged."""
    with downloaded(run, file) as path:
        value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise HandOverError(f"run_id={run.run_id}: {file} holds no JSON object; choose another run")
    return value


def logged_rows(run: Run, file: str) -> list[dict[str, Any]]:
    """The rows of a table that a run logged, each by its columns' names."""
    table = logged_json(run, file)
    names, rows = table.get("columns"), table.get("data")
    if not isinstance(names, list) or not isinstance(rows, list):
        raise HandOverError(f"run_id={run.run_id}: {file} holds no table; choose another run")
    return [dict(zip(names, row, strict=True)) for row in rows]


def logged_metrics(run: Run) -> dict[str, float]:
    """The latest value of every metric of a run."""
    return dict(MlflowClient(run.uri).get_run(run.run_id).data.metrics)


def logged_tags(run: Run) -> dict[str, str]:
    """The tags of a run."""
    return dict(MlflowClient(run.uri).get_run(run.run_id).data.tags)


@contextmanager
def downloaded(run: Run, path: str) -> Iterator[Path]:
    """A logged file or folder as a local copy that is gone after the block.

    Raises HandOverError where the run has not logged it.
    """
    with TemporaryDirectory() as place:
        try:
            local = download_artifacts(run_id=run.run_id, artifact_path=path, dst_path=place, tracking_uri=run.uri)
        except (MlflowException, OSError) as error:
            raise HandOverError(f"run_id={run.run_id}: it has no artifact {path}; choose another run") from error
        yield Path(local)


def load_logged_network(uri: str, model_uri: str) -> nn.Module:
    """The network of an MLflow model address such as `models:/name/1` or `runs:/<id>/network` in the store at `uri`.

    Raises HandOverError where there is none, or only an exported program.
    """
    require_store(uri, f"model={model_uri}")
    quieten_mlflow()
    mlflow.set_tracking_uri(uri)
    try:
        network = mlflow.pytorch.load_model(model_uri)
    except (MlflowException, OSError, ImportError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())
        raise HandOverError(f"model={model_uri}: cannot be loaded ({reason}); see Models in the UI") from error
    # The module of an exported program has no layers left, and a `train` of its own that refuses.
    if not isinstance(network, nn.Module) or "train" in vars(network):
        raise HandOverError(
            f"model={model_uri} is an exported program without layers: log the network with "
            f"serialization_format='pickle', or give model=module:factory and its weights as checkpoint"
        )
    return network


def _below(run: Run, parent_id: str, stage: str) -> list[Run]:
    wanted = f"tags.mlflow.parentRunId = '{parent_id}' and tags.{STAGE_TAG} = '{stage}'"
    found = MlflowClient(run.uri).search_runs([run.experiment_id], wanted, order_by=["attributes.start_time DESC"])
    return [Run(run.uri, run.experiment_id, each.info.run_id) for each in found]
