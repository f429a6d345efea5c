"""Logged runs: an MLflow run by its address, and what it says when it is read."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from flows.cache import StoredResult
from flows.errors import ArtifactError
from flows.redaction import reason_of
from flows.tracking.file_digests import require_logged
from flows.tracking.stores import reached, scheme_of, shown

STAGE_TAG = "stage"
FINISHED = "FINISHED"
CONTENT_TAG = "content."
ARTIFACTS = "mlflow-artifacts"  # kept by the tracking server itself
# What a task has heard of runs, by address and id; None outside of a task.
_HEARD: ContextVar[dict[tuple[str, str], MlflowRun] | None] = ContextVar("heard", default=None)


@contextmanager
def each_run_asked_once() -> Iterator[None]:
    """Ask the store once for each run that the block's thread reads, and again for one that it has written to.

    A task sees an earlier run as it was at the first look, in all that it reads of it.
    """
    before = _HEARD.set({})
    try:
        yield
    finally:
        _HEARD.reset(before)


@dataclass(frozen=True)
class Run(StoredResult):
    """An MLflow run by its address: all that tasks hand to each other."""

    uri: str = field(repr=False)
    experiment_id: str
    run_id: str

    def logged(self) -> MlflowRun:
        """What the store has of the run."""
        heard = _HEARD.get()
        if heard is not None and (found := heard.get((self.uri, self.run_id))) is not None:
            return found
        with reached(self.uri) as client:
            found = client.get_run(self.run_id)
        if heard is not None:
            heard[self.uri, self.run_id] = found
        return found

    def changed(self) -> None:
        """Forget what was heard of the run: it has been written to."""
        if (heard := _HEARD.get()) is not None:
            heard.pop((self.uri, self.run_id), None)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A block that writes to the run, which is read anew in it and after it, whatever became of it."""
        self.changed()
        try:
            yield
        finally:
            self.changed()

    def metrics(self) -> dict[str, float]:
        """The latest value of every metric."""
        return dict(self.logged().data.metrics)

    def tags(self) -> dict[str, str]:
        """The tags by name."""
        return dict(self.logged().data.tags)

    def params(self) -> dict[str, str]:
        """The parameters, as they were spelt."""
        return dict(self.logged().data.params)

    def is_finished(self) -> bool:
        """Whether the run has ended, and well."""
        return bool(self.logged().info.status == FINISHED)

    def contents(self) -> dict[str, str]:
        """What the run's tasks have handed on: the digest of each one's files, by task."""
        tags = self.tags()
        return {name.removeprefix(CONTENT_TAG): value for name, value in tags.items() if name.startswith(CONTENT_TAG)}

    def metric_values(self, names: Iterable[str]) -> dict[tuple[str, int], list[float]]:
        """Every value that was logged of these metrics, by name and step, the latest last."""
        found: dict[tuple[str, int], list[float]] = {}
        with reached(self.uri) as client:
            for name in names:
                for each in sorted(client.get_metric_history(self.run_id, name), key=lambda metric: metric.timestamp):
                    found.setdefault((name, each.step), []).append(each.value)
        return found

    def files(self, folder: str = "") -> list[str]:
        """The paths of all files among the run's artifacts, below a folder."""
        with reached(self.uri) as client:
            listed = client.list_artifacts(self.run_id, folder or None)
        return [name for each in listed for name in (self.files(each.path) if each.is_dir else [each.path])]

    def below(self, stage: str) -> list["Run"]:
        """The runs of a stage that are nested directly below the run, oldest first."""
        return stage_runs_below(self, self.run_id, stage)[::-1]

    @contextmanager
    def opened(self, path: str) -> Iterator[Path]:
        """A logged file or folder as a local copy that is gone after the block.

        Raises ArtifactError where the run has not logged it, or has logged something else.
        """
        with TemporaryDirectory() as place:
            logged = self.logged()
            files = logged.info.artifact_uri
            try:
                # Not by the run's id, for which MLflow asks the store four times.
                local = get_artifact_repository(files, tracking_uri=self.uri).download_artifacts(path, place)
            except (MlflowException, OSError, ImportError) as error:
                # Where another project's runs keep their files may need a library or a key that is not here.
                own = scheme_of(files) in ("", "file", ARTIFACTS)
                why = "" if own else f" in {shown(files)} ({reason_of(error)})"
                raise ArtifactError(
                    f"run_id={self.run_id}: it has no artifact {path}{why}; choose another run"
                ) from error
            require_logged(self.run_id, dict(logged.data.tags), path, Path(local))
            yield Path(local)


def stage_runs_below(run: Run, parent_id: str, stage: str) -> list[Run]:
    """The runs of a stage below that of an id, in the store and the experiment of a run, latest first."""
    wanted = f"tags.mlflow.parentRunId = '{parent_id}' and tags.{STAGE_TAG} = '{stage}'"
    with reached(run.uri) as client:
        found = client.search_runs([run.experiment_id], wanted, order_by=["attributes.start_time DESC"])
    return [Run(run.uri, run.experiment_id, each.info.run_id) for each in found]
