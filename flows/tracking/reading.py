"""Earlier runs: finding them by id and by stage, and whether what they logged is whole."""

import logging
from collections.abc import Mapping

from mlflow.exceptions import MlflowException

from flows.errors import ArtifactError, StoreError
from flows.tracking.file_digests import files_of
from flows.tracking.logged_run import STAGE_TAG, Run, stage_runs_below
from flows.tracking.stores import reached, shown

LOG = logging.getLogger(__name__)
SOURCE_TAG = "from."
ACTIVE = "active"
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def find_run(uri: str, run_id: str) -> Run:
    """The run of that id in the store at `uri`; raises ArtifactError where there is none, or it has been deleted."""
    try:
        with reached(uri) as client:
            found = client.get_run(run_id)
            experiment = client.get_experiment(found.info.experiment_id)
    except StoreError as error:
        if not _is_missing(error):
            raise
        raise ArtifactError(
            f"run_id={run_id}: no such run in {shown(uri)}; copy the id from the UI, or name its store by tracking_uri"
        ) from error
    if experiment.lifecycle_stage != ACTIVE:
        raise ArtifactError(
            f"run_id={run_id}: its experiment {experiment.name!r} is deleted; `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}` brings both back, or choose another run"
        )
    if found.info.lifecycle_stage != ACTIVE:
        raise ArtifactError(
            f"run_id={run_id}: it is deleted; `mlflow runs restore --run-id {run_id}` brings it back, or choose "
            f"another run"
        )
    return Run(uri, found.info.experiment_id, run_id)


def find_stage(run: Run, *stages: str) -> Run:
    """The finished run of a stage that belongs to a run: itself, the one it came from, below it, or beside it.

    Of several stages that of the run itself, else the first that is found. The run it came from may lie in another
    experiment.
    Raises ArtifactError that says which stage to run first.
    """
    tags = run.tags()
    own = tags.get(STAGE_TAG, "")
    ended: list[str] = []
    for stage in (own,) if own in stages else stages:
        for each in _belonging(run, tags, stage):
            if each.is_finished():
                return each
            ended.append(f"{stage} {each.run_id} is {each.logged().info.status}")
    wanted = " or ".join(stages)
    found = f" ({', '.join(ended)})" if ended else ""
    raise ArtifactError(
        f"run_id={run.run_id}: neither it nor a run below it is a finished {wanted} stage{found}; give the run of a "
        f"finished {wanted}, or one above it"
    )


def _belonging(run: Run, tags: Mapping[str, str], stage: str) -> list[Run]:
    if tags.get(STAGE_TAG) == stage:
        return [run]
    if source := tags.get(SOURCE_TAG + stage):
        return [find_run(run.uri, source)]
    parents = [run.run_id, tags.get("mlflow.parentRunId", "")]
    return [below for parent in parents if parent for below in stage_runs_below(run, parent, stage)]


def is_whole(run: Run, task: str) -> bool:
    """Whether the files that a task has told a run are still what was logged; a damaged one is named in the log."""
    for file in files_of(run.tags(), task):
        try:
            with run.opened(file):
                pass
        except ArtifactError as error:
            LOG.warning("store    %s", error)
            return False
    return True


def _is_missing(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, MlflowException) and cause.error_code in MISSING
