"""The main job at its defaults: half of the multiply-adds go for half a point; what they do not read is named."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import tracking
from flows.adapters import artifacts
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import SettingsError
from flows.pipelines.preparation import prepare_flow
from tests.flows.small_run import RunStage, store_in

MAIN = ENTRY_POINTS["main"]


@pytest.mark.slow
def test_the_main_job_removes_half_of_the_multiply_adds_for_at_most_half_a_point(
    run_stage: RunStage, client: MlflowClient
) -> None:
    top = tracking.find_run(client.tracking_uri, run_stage("main", export="none", retrain_epochs="0"))
    pruned, scored = tracking.find_stage(top, "prune"), tracking.find_stage(top, "score")
    metrics = pruned.metrics()
    assert metrics["multiply_adds_removed_share"] >= 0.5
    lost = metrics["tolerance_dense_validation_accuracy"] - metrics["tolerance_validation_accuracy"]
    assert lost <= 0.005
    assert metrics["final_validation_accuracy"] == pytest.approx(metrics["tolerance_validation_accuracy"])
    assert scored.tags()["certificate.status"] == "optimal"
    masks, scores = artifacts.logged_masks(pruned), artifacts.logged_scores(scored)
    assert {layer: len(mask) for layer, mask in masks.items()} == {layer: len(each) for layer, each in scores.items()}
    # The controls have the same counts in each layer.
    assert {"random_accuracy_mean", "critical_accuracy"} <= set(metrics)
    assert run_stage("check", run_id=top.run_id)


def test_a_setting_that_the_default_selection_does_not_read_is_refused_unless_another_is_named(tmp_path: Path) -> None:
    place = {"tracking_uri": store_in(tmp_path)}
    with pytest.raises(SettingsError, match="give selection=share or quantile or program too, or leave share out"):
        prepare_flow(MAIN, {**place, "share": "0.3"})
    for words in ({"share": "0.3", "selection": "share"}, {"threshold": "0.2", "selection": "layer_mean"}):
        assert prepare_flow(MAIN, {**place, **words}).selection == words["selection"]


def test_what_a_preset_says_of_another_selection_is_not_held_against_who_names_one(tmp_path: Path) -> None:
    place = {"tracking_uri": store_in(tmp_path)}
    published = prepare_flow(MAIN, {**place, "preset": "published"})
    assert (published.gate, published.selection, published.threshold) == ("published", "threshold", 0.1)
    assert prepare_flow(MAIN, {**place, "preset": "published", "selection": "tolerance"}).selection == "tolerance"
    with pytest.raises(SettingsError, match=r"tolerance=1\.0 says nothing to selection=threshold"):
        prepare_flow(MAIN, {**place, "preset": "published", "tolerance": "1"})
