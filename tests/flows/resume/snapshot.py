"""A store's runs as values: what two undisturbed runs of the same command have in common."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

# What is measured in seconds, and what stands for another run, process or attempt.
TIMED = ("seconds", "latency", "bytes", "certificate.seconds")
OWN_TAGS = ("mlflow.", "from.", "process", "resumed", "reused", "identity", "record.", "sha256.", "prefect")
EXACT = (".npz",)


@dataclass(frozen=True)
class Seen:
    """One run: its status, its metrics by name and step, how often each was logged, its artifacts, its tags."""

    status: str
    metrics: dict[tuple[str, int], float]
    logged: Counter[tuple[str, int]]
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: tuple[str, ...]
    models: int
    contents: dict[str, bytes]


def snapshot(uri: str, experiment: str = "") -> dict[str, Seen]:
    """Every run of a store by its way from the top, `main: .../train`; raises where two have the same way."""
    found: dict[str, Seen] = {}
    for below in snapshots(uri, experiment).values():
        assert not set(found) & set(below), f"two runs each of {set(found) & set(below)}"
        found |= below
    return found


def snapshots(uri: str, experiment: str = "") -> dict[str, dict[str, Seen]]:
    """The same for every run on top by itself, by its id; of one experiment, where it is named."""
    client = MlflowClient(uri)
    experiments = [each.experiment_id for each in client.search_experiments() if experiment in ("", each.name)]
    runs = {run.info.run_id: run for run in client.search_runs(experiments)}
    found: dict[str, dict[str, Seen]] = {}
    for run in runs.values():
        way, below = _way(run, runs), found.setdefault(_top(run, runs).info.run_id, {})
        assert way not in below, f"two runs {way}"
        below[way] = _seen(client, run)
    return found


def _top(run: Run, runs: dict[str, Run]) -> Run:
    parent = run.data.tags.get("mlflow.parentRunId")
    return _top(runs[parent], runs) if parent else run


def _way(run: Run, runs: dict[str, Run]) -> str:
    parent = run.data.tags.get("mlflow.parentRunId")
    return f"{_way(runs[parent], runs)}/{run.info.run_name}" if parent else run.info.run_name


def _seen(client: MlflowClient, run: Run) -> Seen:
    history = [each for name in run.data.metrics for each in client.get_metric_history(run.info.run_id, name)]
    names = [(each.key, each.step) for each in history]
    steady = {(each.key, each.step): each.value for each in history if not _is_timed(each.key)}
    artifacts = tuple(sorted(_artifacts(client, run.info.run_id, "")))
    exact = [path for path in artifacts if path.endswith(EXACT)]
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return Seen(
        run.info.status,
        steady,
        Counter(names),
        {name: value for name, value in run.data.params.items() if name not in ("tracking_uri", "cache")},
        {name: value for name, value in run.data.tags.items() if not name.startswith(OWN_TAGS)},
        artifacts,
        len(models),
        {path: _content(client.tracking_uri, run.info.run_id, path) for path in exact},
    )


def _artifacts(client: MlflowClient, run_id: str, folder: str) -> list[str]:
    below: list[str] = []
    for each in client.list_artifacts(run_id, folder):
        below += _artifacts(client, run_id, each.path) if each.is_dir else [each.path]
    return below


def _content(uri: str, run_id: str, path: str) -> bytes:
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    return Path(download_artifacts(run_id=run_id, artifact_path=path, tracking_uri=uri)).read_bytes()


def _is_timed(name: str) -> bool:
    return any(word in name for word in TIMED)


def differences(left: dict[str, Seen], right: dict[str, Seen]) -> dict[str, Any]:
    """Where two stores differ, by run and part; empty where they are the same."""
    found: dict[str, Any] = {}
    if set(left) != set(right):
        return {"runs": set(left) ^ set(right)}
    for way in left:
        for part in Seen.__dataclass_fields__:
            one, other = getattr(left[way], part), getattr(right[way], part)
            if one != other:
                found[f"{way}: {part}"] = _apart(one, other)
    return found


def _apart(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        keys = {key for key in {*one, *other} if one.get(key) != other.get(key)}
        return {key: (one.get(key), other.get(key)) for key in keys if not isinstance(one.get(key), bytes)} or keys
    return (one, other)
