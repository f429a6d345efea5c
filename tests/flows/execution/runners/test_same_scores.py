"""One flow on every runner: scores equal to the last bit, no run left open, and a killed worker changes nothing."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from flows.adapters import artifacts
from flows.errors import FlowError
from flows.execution.mapping import map_tasks
from flows.tracking import Run
from tests.flows.execution.runners import trials
from tests.flows.small_run import PATTERN, RunStage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_scores_are_the_same_to_the_last_bit_whatever_solves_the_programs(
    run_stage: RunStage, client: MlflowClient, store_uri: str
) -> None:
    trained = run_stage("train", epochs="4")
    words = {"run_id": trained, "scoring_sets": "2", "images_per_class": "1", **PATTERN}
    tops = [client.get_run(run_stage("score", **words, task_runner=name)) for name in ("threads", "processes", "dask")]
    found = []
    for top in tops:
        wanted = f"tags.mlflow.parentRunId = '{top.info.run_id}' and tags.stage = 'score'"
        [score] = client.search_runs([top.info.experiment_id], wanted)
        found.append(artifacts.logged_scores(Run(store_uri, top.info.experiment_id, score.info.run_id)))
    for other in found[1:]:
        assert {layer: values.tobytes() for layer, values in other.items()} == {
            layer: np.asarray(values).tobytes() for layer, values in found[0].items()
        }
    statuses = {run.info.status for run in client.search_runs([tops[0].info.experiment_id])}
    assert "RUNNING" not in statuses


def test_what_a_killed_process_was_at_is_done_again_in_a_new_pool(prefect_server: None, tmp_path: Path) -> None:
    settings = trials.settings(tmp_path, task_runner="processes")
    calls = [(settings, str(tmp_path), number, times, "kill") for number, times in enumerate((1, 0, 0))]
    assert map_tasks(settings, trials.fail, calls, names=["set 1", "set 2", "set 3"]) == [0, 10, 20]


def test_a_call_that_kills_every_process_takes_no_other_along(prefect_server: None, tmp_path: Path) -> None:
    settings = trials.settings(tmp_path, task_runner="processes", workers="1")
    calls = [(settings, str(tmp_path), number, times, "kill") for number, times in enumerate((9, 0, 0))]
    finished: list[str] = []
    with pytest.raises(FlowError, match=r"^set 1: the process at work was killed again and again"):
        map_tasks(
            settings, trials.fail, calls, names=["set 1", "set 2", "set 3"],
            progress=lambda done, of, name: finished.append(name),
        )  # fmt: skip
    assert sorted(finished) == ["set 2", "set 3"]
