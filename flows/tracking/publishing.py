"""Telling the tracking store what a record holds: as often as one likes, it is there once."""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag

from flows.cache import Data, Entry, File, Metrics, Record, Tags
from flows.errors import StoreError
from flows.tracking.file_digests import digest_tags
from flows.tracking.logged_run import CONTENT_TAG, Run
from flows.tracking.runs import BATCH, RESUMED_TAG
from flows.tracking.stores import reached

LOGGED_TABLES = "mlflow.loggedArtifacts"
RECORD_TAG, REUSED_TAG = "record.", "reused"
TAGS = 100  # in one call
PATIENCE = (1.0, 3.0, 6.0)  # seconds between tries


def recorded_key(run: Run, task: str) -> str:
    """The key of the record that a run has been told as a task's, all of it; empty where there is none."""
    return run.tags().get(RECORD_TAG + task, "")


def known_metrics(run: Run) -> frozenset[tuple[str, int]]:
    """The figures that an interrupted process has left in a run, by name and step; none where there was none."""
    if RESUMED_TAG not in run.tags():
        return frozenset()
    with reached(run.uri) as client:
        histories = {name: client.get_metric_history(run.run_id, name) for name in run.metrics()}
    return frozenset((name, each.step) for name, history in histories.items() for each in history)


def publish(run: Run, task: str, key: str, record: Record, *, unsent: Sequence[Metrics] | None, reused: bool) -> None:
    """Tell a run what a record holds, and note on it that it has been told all.

    `unsent` are the metrics that have not been sent yet; None where that is not known, and what the run has decides.
    Raises StoreError after some tries.
    """
    figures, others = record.metrics(), [entry for entry in record.entries() if not isinstance(entry, Metrics)]
    tags = {RECORD_TAG + task: key}
    if record.content:
        tags[CONTENT_TAG + task] = record.content

    def once() -> None:
        missing = _missing(run, figures) if unsent is None else unsent
        tell(run, [*others, *missing], record.files, task)
        if reused:
            before = run.tags().get(REUSED_TAG, "")
            tags[REUSED_TAG] = ", ".join(dict.fromkeys([*filter(None, before.split(", ")), task]))
        # Last: who finds the mark finds everything.
        tell(run, [Tags(tags)], record.files)

    for pause in PATIENCE:
        try:
            return once()
        except StoreError:
            # What was told before the failure is told again, except for figures: those the run has by now stay.
            unsent = None
            time.sleep(pause)
    return once()


def tell(run: Run, entries: Iterable[Entry], files: Path, task: str = "") -> None:
    """Tell a run what entries of a task say; `files` is the folder of those that are files. Raises StoreError."""
    with reached(run.uri) as client, run.changing():
        metrics: list[Metric] = []
        tags: dict[str, str] = {}
        tables: list[str] = []
        for entry in entries:
            match entry:
                case Metrics(values, step, timestamp):
                    metrics += [Metric(name, value, timestamp, step) for name, value in values.items()]
                case Tags(values):
                    tags |= values
                case File(path, table):
                    client.log_artifact(run.run_id, str(files / path), str(Path(path).parent) if "/" in path else None)
                    tables += [path] if table else []
                    tags |= digest_tags(path, files / path, task)
                case Data():
                    client.log_inputs(run.run_id, [_input(entry)])
        if tables:
            tags[LOGGED_TABLES] = _with_tables(run, tables)
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run.run_id, metrics=metrics[start : start + BATCH])
        told = [RunTag(name, value) for name, value in tags.items()]
        for start in range(0, len(told), TAGS):
            client.log_batch(run.run_id, tags=told[start : start + TAGS])


def _missing(run: Run, figures: Sequence[Metrics]) -> list[Metrics]:
    """Those of the figures that the run does not have, by name and step."""
    with reached(run.uri) as client:
        known = set(run.metrics())
        wanted = {name for entry in figures for name in entry.values} & known
        present = {(name, each.step) for name in wanted for each in client.get_metric_history(run.run_id, name)}
    parts = [
        Metrics(
            {name: value for name, value in entry.values.items() if (name, entry.step) not in present},
            *(entry.step, entry.timestamp),
        )
        for entry in figures
    ]
    return [part for part in parts if part.values]


def _with_tables(run: Run, tables: Sequence[str]) -> str:
    """MLflow's own list of the tables that a run's comparison shows, with these."""
    listed = json.loads(run.tags().get(LOGGED_TABLES, "[]"))
    new = [{"path": path, "type": "table"} for path in tables]
    return json.dumps(listed + [each for each in new if each not in listed])


def _input(data: Data) -> DatasetInput:
    entity = Dataset(data.name, data.digest, data.source_type, data.source, data.schema, data.profile)
    return DatasetInput(entity, [InputTag("mlflow.data.context", data.context)])
