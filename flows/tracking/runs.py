"""Opening, continuing and ending runs: each ends as FINISHED, FAILED or KILLED, in whatever thread it lives."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from flows.errors import StoreError
from flows.records import Draft, Entry, Metrics
from flows.tracking.processes import is_gone, this_process
from flows.tracking.stores import Store, reached

LOG = logging.getLogger(__name__)
PROCESS_TAG, IDENTITY_TAG = "process", "identity"
CONTINUED_TAG, RESUMED_TAG = "continued_by", "resumed"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"
FINISHED, FAILED, KILLED, RUNNING = "FINISHED", "FAILED", "KILLED", "RUNNING"


@dataclass(frozen=True)
class Run:
    """An MLflow run by its address: all that tasks hand to each other."""

    uri: str
    experiment_id: str
    run_id: str


@dataclass(frozen=True, eq=False)
class Writer(Run):
    """A run that a task writes to: what it writes is kept in a record, and told to the run when that is sealed.

    Attributes:
        known: figures that the run has already, by name and step.
        unsent: the metrics that could not be sent at once; sending is given up with the first.
    """

    draft: Draft
    known: frozenset[tuple[str, int]] = frozenset()
    unsent: list[Metrics] = field(default_factory=list)

    def append(self, entry: Entry) -> None:
        """Keep an entry in the record; metrics are sent at once too, for people who watch."""
        self.draft.append(entry)
        if not isinstance(entry, Metrics):
            return
        new = {name: value for name, value in entry.values.items() if (name, entry.step) not in self.known}
        entry = Metrics(new, entry.step, entry.timestamp)
        if self.unsent:
            self.unsent.append(entry)
            return
        try:
            client = MlflowClient(self.uri)
            client.log_batch(self.run_id, metrics=_metrics(entry))
        except (MlflowException, OSError) as error:
            LOG.warning("store    %s does not answer; the work goes on (%s)", self.uri, type(error).__name__)
            self.unsent.append(entry)


@contextmanager
def open_flow_run(
    store: Store, name: str, tags: Mapping[str, str], identity: str = "", *, resume: bool = False
) -> Iterator[Run]:
    """The run on top: that of `mlflow run`, the unfinished one of that identity to resume it, or a new one.

    Runs that a dead process of this machine has left RUNNING are ended as KILLED first.
    """
    _end_abandoned(store)
    unfinished = _unfinished(store, identity) if resume else None
    tags = {**tags, PROCESS_TAG: this_process(), IDENTITY_TAG: identity}
    with reached(store.uri) as client:
        if store.run_id:
            # Without arguments: so MLflow takes the run id out of the environment, where a nested run would find it
            # again.
            mlflow.start_run()
            run = Run(store.uri, store.experiment_id, store.run_id)
            for key, value in {**tags, NAME_TAG: name}.items():
                client.set_tag(run.run_id, key, value)
            if unfinished is not None and unfinished.info.run_id != run.run_id:
                _move(client, unfinished, run)
        elif unfinished is not None:
            run = Run(store.uri, store.experiment_id, unfinished.info.run_id)
            mlflow.start_run(run_id=run.run_id, tags={**tags, RESUMED_TAG: "true"})
            LOG.info("continue run %s, which was interrupted", run.run_id)
        else:
            opened = mlflow.start_run(experiment_id=store.experiment_id, run_name=name, tags=tags)
            run = Run(store.uri, store.experiment_id, opened.info.run_id)
    with _ended(run):
        yield run


@contextmanager
def open_run(parent: Run, name: str, tags: Mapping[str, str], identity: str = "") -> Iterator[Run]:
    """A run nested below another; the one of that identity that is there already, or a new one.

    The parent is named because the active run is known in its own thread only. A finished run stays as it is.
    """
    found = _nested(parent, identity) if identity else None
    if found is not None and found.info.status == FINISHED:
        yield Run(parent.uri, parent.experiment_id, found.info.run_id)
        return
    tags = {**tags, PROCESS_TAG: this_process(), IDENTITY_TAG: identity}
    with reached(parent.uri):
        mlflow.set_tracking_uri(parent.uri)
        if found is not None:
            opened = mlflow.start_run(run_id=found.info.run_id, nested=True, tags={**tags, RESUMED_TAG: "true"})
        else:
            opened = mlflow.start_run(
                nested=True,
                parent_run_id=parent.run_id,
                experiment_id=parent.experiment_id,
                run_name=name,
                tags=tags,
            )
    run = Run(parent.uri, parent.experiment_id, opened.info.run_id)
    with _ended(run):
        yield run


def end_open_runs(uri: str, status: str) -> int:
    """End every run that this process has open, in whatever thread, and those that workers have open below them.

    How many there were.
    """
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments(view_type=ViewType.ALL)]
    # Below those too that have been ended before: a worker may have opened a run since.
    mine = {run.info.run_id for run in client.search_runs(experiments, f"tags.{PROCESS_TAG} = '{this_process()}'")}
    found = client.search_runs(experiments, f"attributes.status = '{RUNNING}'")
    open_here = [run for run in found if run.info.run_id in mine or run.data.tags.get(PARENT_TAG) in mine]
    for run in open_here:
        client.set_terminated(run.info.run_id, status)
    return len(open_here)


def _unfinished(store: Store, identity: str) -> MlflowRun | None:
    """The latest run of that identity that has ended before its work."""
    wanted = f"tags.{IDENTITY_TAG} = '{identity}'"
    with reached(store.uri) as client:
        found = client.search_runs([store.experiment_id], wanted, order_by=["attributes.start_time DESC"])
    return next((run for run in found if _may_go_on(run)), None)


def _may_go_on(run: MlflowRun) -> bool:
    return run.info.status in (FAILED, KILLED) and CONTINUED_TAG not in run.data.tags


def _nested(parent: Run, identity: str) -> MlflowRun | None:
    wanted = f"tags.`{PARENT_TAG}` = '{parent.run_id}' and tags.{IDENTITY_TAG} = '{identity}'"
    with reached(parent.uri) as client:
        found = client.search_runs([parent.experiment_id], wanted, max_results=1)
    return found[0] if found else None


def _move(client: MlflowClient, old: MlflowRun, new: Run) -> None:
    """Hand the runs below one that was interrupted to the one that goes on: `mlflow run` opens a new one each time."""
    below = client.search_runs([new.experiment_id], f"tags.`{PARENT_TAG}` = '{old.info.run_id}'")
    for run in below:
        client.set_tag(run.info.run_id, PARENT_TAG, new.run_id)
    client.set_tag(old.info.run_id, CONTINUED_TAG, new.run_id)
    client.set_tag(old.info.run_id, "mlflow.note.content", f"Interrupted; continued by run {new.run_id}.")
    LOG.info("continue run %s, which was interrupted, in run %s", old.info.run_id, new.run_id)


def _end_abandoned(store: Store) -> None:
    with reached(store.uri) as client:
        wanted = f"attributes.status = '{RUNNING}' and tags.{PROCESS_TAG} != ''"
        for run in client.search_runs([store.experiment_id], wanted):
            if is_gone(run.data.tags[PROCESS_TAG]):
                client.set_terminated(run.info.run_id, KILLED)


@contextmanager
def _ended(run: Run) -> Iterator[None]:
    start = time.monotonic()
    # What is no Exception is an order to stop: KeyboardInterrupt, or Prefect's own where it takes SIGTERM itself.
    status = KILLED
    try:
        yield
        with reached(run.uri) as client:
            # A run that was interrupted between this figure and its end has it already.
            if "seconds" not in client.get_run(run.run_id).data.metrics:
                client.log_metric(run.run_id, "seconds", time.monotonic() - start)
        status = FINISHED
    except Exception:
        status = FAILED
        _end_left_behind(run)
        raise
    finally:
        _end(run, status)


def _end_left_behind(run: Run) -> None:
    """End what workers that died, or that are out of reach, have left open below a run that fails."""
    client = MlflowClient(run.uri)
    wanted = f"attributes.status = '{RUNNING}' and tags.`{PARENT_TAG}` = '{run.run_id}'"
    try:
        for each in client.search_runs([run.experiment_id], wanted):
            client.set_terminated(each.info.run_id, KILLED)
    except (MlflowException, OSError) as error:
        LOG.warning("store    %s does not answer (%s)", run.uri, type(error).__name__)


def _end(run: Run, status: str) -> None:
    try:
        mlflow.end_run(status)
    except (MlflowException, OSError) as error:
        if status == FINISHED:
            raise StoreError(
                f"tracking store {run.uri} cannot be used: run {run.run_id} is done but not ended; when it can again, "
                f"the same command ends it"
            ) from error
        # The error that is under way says more; the next flow on this machine ends the run.
        LOG.warning("store    %s does not answer: run %s stays open until the next command", run.uri, run.run_id)


def _metrics(entry: Metrics) -> list[mlflow.entities.Metric]:
    return [mlflow.entities.Metric(name, value, entry.timestamp, entry.step) for name, value in entry.values.items()]
