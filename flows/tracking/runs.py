"""Opening, continuing and ending runs: each ends as FINISHED, FAILED or KILLED, in whatever thread it lives."""

import itertools
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from flows.cache import Metrics, Part
from flows.errors import StoreError
from flows.redaction import redacted
from flows.tracking.logged_run import FINISHED, Run
from flows.tracking.processes import is_elsewhere, is_gone, this_process
from flows.tracking.stores import Store, reached

LOG = logging.getLogger(__name__)
PROCESS_TAG, IDENTITY_TAG = "process", "identity"
CONTINUED_TAG, RESUMED_TAG = "continued_by", "resumed"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"
FAILED, KILLED, RUNNING = "FAILED", "KILLED", "RUNNING"
BATCH = 500  # figures in one call; MLflow takes 1000
PAUSE = 1.0  # seconds between two calls while a stage works
_HELD = threading.Event()  # set once the process is about to end
LEFT_OPEN = (
    "store    run %s of the same command is open in a process that cannot be seen from here (%s), and is left alone; "
    "where it has ended, MlflowClient().set_terminated('%s', 'KILLED') closes the run"
)


@dataclass(eq=False)
class LiveMetrics:
    """Live metrics of a stage, for people who watch: sent once a second at most; the first failure ends that.

    Attributes:
        known: figures that the run has already, by name and step.
        unsent: the metrics that have not been sent.
    """

    run: Run
    known: frozenset[tuple[str, int]] = frozenset()
    unsent: list[Metrics] = field(default_factory=list)
    _next: float = 0.0  # when to send again, in monotonic seconds

    def __call__(self, part: Part) -> None:
        """Send a part, where it is metrics, together with those that wait; or let it wait for the next."""
        if not isinstance(part, Metrics):
            return
        new = {name: value for name, value in part.values.items() if (name, part.step) not in self.known}
        self.unsent.append(Metrics(new, part.step, part.timestamp))
        if time.monotonic() < self._next:
            return
        uri = self.run.uri
        try:
            client = MlflowClient(uri)
            while self.unsent:
                some = self._some()
                client.log_batch(self.run.run_id, metrics=[each for waiting in some for each in _metrics(waiting)])
                del self.unsent[: len(some)]
        except (MlflowException, OSError) as error:
            LOG.warning("store    %s does not answer; the work goes on (%s)", redacted(uri), type(error).__name__)
            self._next = math.inf
        else:
            self._next = time.monotonic() + PAUSE
        finally:
            self.run.changed()

    def _some(self) -> list[Metrics]:
        """The first that wait, as many as one call takes."""
        figures = itertools.accumulate(len(waiting.values) for waiting in self.unsent)
        return self.unsent[: max(1, sum(number <= BATCH for number in figures))]


@contextmanager
def open_flow_run(
    store: Store,
    name: str,
    tags: Mapping[str, str],
    identity: str = "",
    *,
    resume: bool = False,
    system_metrics: bool = False,
) -> Iterator[Run]:
    """The run on top: that of `mlflow run`, the unfinished one of that identity to resume it, or a new one.

    Runs that a dead process of this host has left RUNNING are ended as KILLED first; others are left alone. With
    `system_metrics` MLflow logs those of the machine to the run as long as it is open; without, where its own
    variable says so.
    """
    _wait_where_held()
    _end_abandoned(store, identity)
    unfinished = _unfinished(store, identity) if resume else None
    tags = {**tags, PROCESS_TAG: this_process(), IDENTITY_TAG: identity}
    is_new = False
    with reached(store.uri) as client:
        if store.run_id:
            # Without arguments: so MLflow takes the run id out of the environment, where a nested run would find it
            # again.
            mlflow.start_run(log_system_metrics=system_metrics or None)
            run = Run(store.uri, store.experiment_id, store.run_id)
            for key, value in {**tags, NAME_TAG: name}.items():
                client.set_tag(run.run_id, key, value)
            if unfinished is not None and unfinished.info.run_id != run.run_id:
                _move(client, unfinished, run)
        elif unfinished is not None:
            run = Run(store.uri, store.experiment_id, unfinished.info.run_id)
            mlflow.start_run(
                run_id=run.run_id, tags={**tags, RESUMED_TAG: "true"}, log_system_metrics=system_metrics or None
            )
            LOG.info("continue run %s, which was interrupted", run.run_id)
        else:
            is_new = True
            opened = mlflow.start_run(
                experiment_id=store.experiment_id, run_name=name, tags=tags, log_system_metrics=system_metrics or None
            )
            run = Run(store.uri, store.experiment_id, opened.info.run_id)
    run.changed()
    with _ended(run, is_new=is_new):
        yield run


@contextmanager
def open_run(parent: Run, name: str, tags: Mapping[str, str], identity: str = "") -> Iterator[Run]:
    """A run nested below another; the one of that identity that is there already, or a new one.

    The parent is named because the active run is known in its own thread only. A finished run stays as it is.
    """
    _wait_where_held()
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
    run.changed()
    with _ended(run, is_new=found is None):
        yield run


def hold_runs() -> None:
    """Let every thread that would open or end a run wait from now on: the process is about to end."""
    _HELD.set()


def _wait_where_held() -> None:
    # A thread at work cannot be stopped: it would bring a flow to its end while others of its runs are killed.
    if _HELD.is_set():
        threading.Event().wait()


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
        _terminate(client, uri, run, status)
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
        with _known(new.uri, run).changing():
            client.set_tag(run.info.run_id, PARENT_TAG, new.run_id)
    with _known(new.uri, old).changing():
        client.set_tag(old.info.run_id, CONTINUED_TAG, new.run_id)
        client.set_tag(old.info.run_id, "mlflow.note.content", f"Interrupted; continued by run {new.run_id}.")
    LOG.info("continue run %s, which was interrupted, in run %s", old.info.run_id, new.run_id)


def _end_abandoned(store: Store, identity: str) -> None:
    with reached(store.uri) as client:
        wanted = f"attributes.status = '{RUNNING}' and tags.{PROCESS_TAG} != ''"
        for run in client.search_runs([store.experiment_id], wanted):
            process = run.data.tags[PROCESS_TAG]
            if is_gone(process):
                _terminate(client, store.uri, run, KILLED)
            elif identity and run.data.tags.get(IDENTITY_TAG) == identity and is_elsewhere(process):
                LOG.info(LEFT_OPEN, *(run.info.run_id, process, run.info.run_id))


@contextmanager
def _ended(run: Run, *, is_new: bool) -> Iterator[None]:
    start = time.monotonic()
    # What is no Exception is an order to stop: KeyboardInterrupt, or Prefect's own where it takes SIGTERM itself.
    status = KILLED
    try:
        yield
        with reached(run.uri) as client, run.changing():
            # A run that was interrupted between this figure and its end has it already.
            if is_new or "seconds" not in run.metrics():
                client.log_metric(run.run_id, "seconds", time.monotonic() - start)
        status = FINISHED
    # Whatever a stage raises ends its run as failed; it is raised again.
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
            _terminate(client, run.uri, each, KILLED)
    except (MlflowException, OSError) as error:
        LOG.warning("store    %s does not answer (%s)", redacted(run.uri), type(error).__name__)


def _terminate(client: MlflowClient, uri: str, run: MlflowRun, status: str) -> None:
    with _known(uri, run).changing():
        client.set_terminated(run.info.run_id, status)


def _known(uri: str, run: MlflowRun) -> Run:
    return Run(uri, run.info.experiment_id, run.info.run_id)


def _end(run: Run, status: str) -> None:
    _wait_where_held()
    try:
        with run.changing():
            mlflow.end_run(status)
    except (MlflowException, OSError) as error:
        if status == FINISHED:
            raise StoreError(
                f"tracking store {run.uri} cannot be used: run {run.run_id} is done but not ended; when it can again, "
                f"the same command ends it"
            ) from error
        # The error that is under way says more; the next flow on this machine ends the run.
        LOG.warning(
            "store    %s does not answer: run %s stays open until the next command", redacted(run.uri), run.run_id
        )


def _metrics(entry: Metrics) -> list[mlflow.entities.Metric]:
    return [mlflow.entities.Metric(name, value, entry.timestamp, entry.step) for name, value in entry.values.items()]
