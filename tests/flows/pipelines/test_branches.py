"""The whole way for a network with a residual addition, a max-pool and a convolution in one dimension."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows import tracking
from flows.adapters import artifacts
from flows.tracking import Run
from tests.flows.small_run import PATTERN, RunStage

pytestmark = pytest.mark.slow

NETWORK = """
import torch
from torch import nn

class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.raw = nn.Conv2d(1, 1, 1)
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.pool = nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)
        self.series, self.output = nn.Conv1d(4, 5, 3), nn.Linear(5 * 14, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x + self.raw(x))))
        x = self.pool(torch.relu(self.second(x) + x))
        return self.output(torch.relu(self.series(x.flatten(2))).flatten(1))
"""


@pytest.fixture(scope="module")
def branched(run_stage: RunStage, client: MlflowClient, tmp_path_factory: pytest.TempPathFactory) -> MlflowRun:
    """A main run with integer scores."""
    file = tmp_path_factory.mktemp("own") / "branched.py"
    file.write_text(NETWORK)
    words = {"model": f"{file}:Branched", "image_size": "8", "epochs": "5", "learning_rate": "0.01", "draws": "1"}
    scoring = {**PATTERN, "images_per_class": "1", "scoring_sets": "2", "integer_scores": "true", "gap": "0.01"}
    scoring |= {"selection": "threshold"}
    return client.get_run(run_stage("main", **words, **scoring, explain="true", ranges="true", export="none"))


@pytest.fixture(scope="module")
def scored(branched: MlflowRun, client: MlflowClient) -> Run:
    return tracking.find_stage(tracking.find_run(client.tracking_uri, branched.info.run_id), "score")


def test_it_is_scored_explained_pruned_and_trained_on(client: MlflowClient, branched: MlflowRun, scored: Run) -> None:
    assert branched.info.status == "FINISHED"
    scores = artifacts.logged_scores(scored)
    assert {layer: len(values) for layer, values in scores.items()} == {"first": 4, "series": 5}
    for run in scored.below("scoring set"):
        logged = {Path(item.path).name for item in client.list_artifacts(run.run_id)}
        assert {"explanation.json", "explanation_by_class.json", "ranges.json"} <= logged


def test_layers_without_scores_are_named_with_the_reason(scored: Run) -> None:
    assert scored.json("unscored.json") == {"raw": "'add' adds its pre-activations to others before a ReLU"}


def test_layers_that_a_sum_ties_are_named_and_scored_as_one(scored: Run) -> None:
    assert scored.json("groups.json") == {"first": ["second"]}


def test_the_kernels_of_both_kinds_of_convolutions_are_pictures(client: MlflowClient, branched: MlflowRun) -> None:
    names = [Path(item.path).name for item in client.list_artifacts(branched.info.run_id, "images")]
    for layer in ("first", "series"):
        assert any(name.startswith(f"mask {layer}+") and name.endswith(".png") for name in names)


def test_what_integer_rounds_changed_is_logged_and_said(client: MlflowClient, branched: MlflowRun, scored: Run) -> None:
    sets = scored.below("scoring set")
    solutions = [artifacts.logged_solution(run) for run in sets]
    changes = [solution.certificate.relaxed_change for solution in solutions]
    for run, solution, change in zip(sets, solutions, changes, strict=True):
        assert set(np.concatenate(list(solution.scores.values()))) <= {0.0, 1.0}
        metrics = run.metrics()
        assert {layer: metrics[f"relaxed_change.{layer}"] for layer in change} == change
        assert metrics["certificate.relaxation"] == solution.certificate.relaxation
    largest = {layer: max(change[layer] for change in changes) for layer in ("first", "series")}
    metrics = scored.metrics()
    assert {layer: metrics[f"relaxed_change.{layer}"] for layer in largest} == largest
    layer = max(largest, key=lambda name: largest[name])
    line = f"Relaxed and integer scores differ by at most {largest[layer]:.3g}, in layer {layer}."
    assert scored.tags()["mlflow.note.content"] == line
    assert line in branched.data.tags["mlflow.note.content"].split("\n\n")


def test_its_stored_solutions_hold(run_stage: RunStage, client: MlflowClient, scored: Run) -> None:
    # What the run names is a file: it has to be named again.
    model = artifacts.logged_settings(scored).model
    checked = tracking.find_run(client.tracking_uri, run_stage("check", run_id=scored.run_id, model=model))
    assert tracking.find_stage(checked, "check").metrics()["solutions_refused"] == 0
