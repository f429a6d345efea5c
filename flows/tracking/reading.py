"""Reading what earlier runs logged."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from flows.errors import HandOverError, StoreError
from flows.tracking.runs import Run, Writer
from flows.tracking.stores import reached

STAGE_TAG = "stage"
SOURCE_TAG = "from."
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def find_run(uri: str, run_id: str) -> Run:
    """The run of that id in the store at `uri`; raises HandOverError where there is none."""
    try:
        with reached(uri) as client:
            found = client.get_run(run_id)
    except StoreError as error:
        if not _is_missing(error):
            raise
        raise HandOverError(
            f"run_id={run_id}: no such run in {uri}; copy the id from the UI, or name its store by tracking_uri"
        ) from error
    return Run(uri, found.info.experiment_id, run_id)


def is_finished(run: Run) -> bool:
    """Whether a run has ended, and well."""
    return bool(_logged(run).info.status == "FINISHED")


def find_stage(run: Run, *stages: str) -> Run:
    """The finished run of a stage that belongs to a run: itself, the one it came from, below it, or beside it.

    Of several stages that of the run itself, else the first that is found. The run it came from may lie in another
    experiment.
    Raises HandOverError that says which stage to run first.
    """
    tags = _logged(run).data.tags
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
    return dict(_logged(run).data.metrics)


def logged_tags(run: Run) -> dict[str, str]:
    """The tags of a run."""
    return dict(_logged(run).data.tags)


@contextmanager
def downloaded(run: Run, path: str) -> Iterator[Path]:
    """A logged file or folder as a local copy that is gone after the block.

    Raises HandOverError where the run has not logged it.
    """
    if isinstance(run, Writer) and (run.draft.files / path).exists():
        yield run.draft.files / path
        return
    with TemporaryDirectory() as place:
        try:
            local = download_artifacts(run_id=run.run_id, artifact_path=path, dst_path=place, tracking_uri=run.uri)
        except (MlflowException, OSError) as error:
            with reached(run.uri) as client:
                client.get_run(run.run_id)
            raise HandOverError(f"run_id={run.run_id}: it has no artifact {path}; choose another run") from error
        yield Path(local)


def _logged(run: Run) -> MlflowRun:
    with reached(run.uri) as client:
        return client.get_run(run.run_id)


def _below(run: Run, parent_id: str, stage: str) -> list[Run]:
    wanted = f"tags.mlflow.parentRunId = '{parent_id}' and tags.{STAGE_TAG} = '{stage}'"
    with reached(run.uri) as client:
        found = client.search_runs([run.experiment_id], wanted, order_by=["attributes.start_time DESC"])
    return [Run(run.uri, run.experiment_id, each.info.run_id) for each in found]


def _is_missing(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, MlflowException) and cause.error_code in MISSING
