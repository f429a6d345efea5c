"""Robustness: three kinds of scoring sets, each set scored and pruned by alone."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows.adapters import artifacts
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import SettingsError
from flows.pipelines.preparation import prepare_flow
from flows.reporting.rank_correlation import agreement
from flows.tracking import Run
from tests.flows.small_run import PATTERN, RunStage

TINY = {"dataset": "digits", "image_size": "8", "epochs": "4", "model": "fc2", "images_per_class": "1", **PATTERN}
SETS = 2
pytestmark = pytest.mark.slow  # some thirty solutions, each in a run of its own


@pytest.fixture(scope="module")
def top(run_stage: RunStage, client: MlflowClient) -> MlflowRun:
    return client.get_run(run_stage("robustness", scoring_sets=str(SETS), sets_seed="7", **TINY))


@pytest.fixture(scope="module")
def kinds(top: MlflowRun, client: MlflowClient) -> dict[str, MlflowRun]:
    wanted = f"tags.mlflow.parentRunId = '{top.info.run_id}'"
    return {run.info.run_name: run for run in client.search_runs([top.info.experiment_id], wanted)}


def address(store_uri: str, run: MlflowRun) -> Run:
    return Run(store_uri, run.info.experiment_id, run.info.run_id)


def labels(run: Run, number: int) -> list[int]:
    return sorted(artifacts.logged_scoring_set(run, number).labels.tolist())


def test_every_kind_has_a_run_with_a_run_per_solution_below(
    top: MlflowRun, kinds: dict[str, MlflowRun], client: MlflowClient
) -> None:
    assert set(kinds) == {"train", "balanced", "unbalanced", "by class"}
    for name, solutions in (("balanced", SETS), ("unbalanced", SETS), ("by class", 10 * SETS)):
        wanted = f"tags.mlflow.parentRunId = '{kinds[name].info.run_id}' and tags.stage = 'scoring set'"
        found = client.search_runs([top.info.experiment_id], wanted)
        assert len(found) == solutions
        assert {run.info.status for run in found} == {"FINISHED"}


def test_the_kinds_differ_in_classes_and_agree_in_size(kinds: dict[str, MlflowRun], store_uri: str) -> None:
    balanced, unbalanced, by_class = (
        address(store_uri, kinds[name]) for name in ("balanced", "unbalanced", "by class")
    )
    for number in range(1, SETS + 1):
        assert labels(balanced, number) == list(range(10))
        assert len(labels(unbalanced, number)) == 10
        whole = artifacts.logged_scoring_set(balanced, number)
        parts = [artifacts.logged_scoring_set(by_class, 10 * (number - 1) + label + 1) for label in range(10)]
        assert [part.labels.tolist() for part in parts] == [[label] for label in range(10)]
        assert sorted(int(part.indices[0]) for part in parts) == sorted(whole.indices.tolist())
    assert any(labels(unbalanced, number) != list(range(10)) for number in range(1, SETS + 1))


def test_what_is_logged_is_the_agreement_of_the_solutions_scores(
    top: MlflowRun, kinds: dict[str, MlflowRun], client: MlflowClient, store_uri: str
) -> None:
    run = kinds["balanced"]
    wanted = f"tags.mlflow.parentRunId = '{run.info.run_id}' and tags.stage = 'scoring set'"
    solved = client.search_runs([top.info.experiment_id], wanted)
    scores = [artifacts.logged_solution(address(store_uri, each)).scores for each in solved]
    for layer in scores[0]:
        expected = agreement(np.stack([each[layer] for each in scores]))
        assert run.data.metrics[f"spearman_mean.{layer}"] == pytest.approx(expected.mean)
        assert top.data.metrics[f"balanced.spearman_min.{layer}"] == pytest.approx(expected.smallest)


def test_scores_by_class_are_the_mean_over_the_classes_of_a_set(
    kinds: dict[str, MlflowRun], client: MlflowClient, store_uri: str
) -> None:
    run = kinds["by class"]
    stored = artifacts.logged_set_scores(address(store_uri, run))
    of_first = [
        each
        for each in client.search_runs(
            [run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}' and tags.stage = 'scoring set'"
        )
        if int(each.data.tags["scoring_set"]) <= 10
    ]
    scores = [artifacts.logged_solution(address(store_uri, each)).scores for each in of_first]
    assert len(scores) == 10
    for layer, values in stored.items():
        assert values.shape[0] == SETS
        np.testing.assert_allclose(values[0], np.mean([each[layer] for each in scores], axis=0), atol=1e-12)


def test_the_spread_is_that_of_every_set_pruned_by_alone(
    kinds: dict[str, MlflowRun], client: MlflowClient, store_uri: str
) -> None:
    for name in ("balanced", "unbalanced", "by class"):
        run = kinds[name]
        history = client.get_metric_history(run.info.run_id, "set.units_removed")
        removed = [each.value for each in sorted(history, key=lambda each: each.step)]
        scores = artifacts.logged_set_scores(address(store_uri, run))
        low = [
            sum(min(int((values[number] < 0.5).sum()), values.shape[1] - 1) for values in scores.values())
            for number in range(SETS)
        ]
        assert removed == low
        assert run.data.metrics["units_removed_mean"] == pytest.approx(np.mean(removed))
        assert run.data.metrics["units_removed_stdev"] == pytest.approx(np.std(removed))


def test_the_run_on_top_compares_the_kinds(top: MlflowRun, client: MlflowClient) -> None:
    note = top.data.tags["mlflow.note.content"]
    assert all(f"\n| {kind} |" in note for kind in ("balanced", "unbalanced", "by class"))
    files = {each.path for each in client.list_artifacts(top.info.run_id)}
    assert {"agreement.json", "agreement.png", "spread.png"} <= files


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"scoring_sets": "1"}, "scoring_sets=1: agreement is one of pairs"),
        ({"scoring_sets": "40"}, r"class '\d' of digits has \d+ validation images, but scoring_sets=40 times"),
    ],
)
def test_sets_that_cannot_be_compared_or_drawn_are_refused_before_anything_is_written(
    words: dict[str, str], message: str, tmp_path: Path
) -> None:
    store = tmp_path / "mlflow.db"
    with pytest.raises(SettingsError, match=message) as refusal:
        prepare_flow(ENTRY_POINTS["robustness"], {**TINY, "tracking_uri": f"sqlite:///{store}", **words})
    assert "\n" not in str(refusal.value)
    assert not store.exists()
