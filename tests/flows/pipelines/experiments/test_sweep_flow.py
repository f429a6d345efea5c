"""Sweeps: one trained network, a run per value, curves and a table on top."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows.config.entry_points import ENTRY_POINTS
from flows.errors import SettingsError
from flows.pipelines.preparation import prepare_flow
from tests.flows.small_run import RunStage

pytestmark = pytest.mark.slow

TINY = {"epochs": "4", "model": "fc2", "images_per_class": "1", "gate": "pattern"}
Find = Callable[[MlflowRun, str], list[MlflowRun]]


@pytest.fixture(scope="module")
def below(client: MlflowClient) -> Find:
    def find(run: MlflowRun, stage: str) -> list[MlflowRun]:
        wanted = f"tags.mlflow.parentRunId = '{run.info.run_id}' and tags.stage = '{stage}'"
        return client.search_runs([run.info.experiment_id], wanted, order_by=["attributes.start_time ASC"])

    return find


@pytest.fixture(scope="module")
def weights_sweep(run_stage: RunStage, client: MlflowClient) -> MlflowRun:
    return client.get_run(run_stage("sweep", over="loss_weight", values="0.3,20", **TINY))


@pytest.fixture(scope="module")
def thresholds_sweep(run_stage: RunStage, client: MlflowClient) -> MlflowRun:
    return client.get_run(run_stage("sweep", over="threshold", values="0.05,0.5,1", loss_weight="5", **TINY))


def table(client: MlflowClient, run: MlflowRun, file: str, place: Path) -> dict[str, list[object]]:
    logged = json.loads(Path(client.download_artifacts(run.info.run_id, file, str(place))).read_text())
    return {name: [row[at] for row in logged["data"]] for at, name in enumerate(logged["columns"])}


def test_a_network_is_trained_once_and_scored_for_every_value(weights_sweep: MlflowRun, below: Find) -> None:
    assert len(below(weights_sweep, "train")) == 1
    points = below(weights_sweep, "point")
    assert [point.info.run_name for point in points] == ["loss_weight=0.3", "loss_weight=20"]
    assert [point.data.params["loss_weight"] for point in points] == ["0.3", "20.0"]
    assert [len(below(point, "score")) for point in points] == [1, 1]
    assert all(point.info.status == "FINISHED" for point in points)


def test_points_over_the_threshold_share_one_solution(thresholds_sweep: MlflowRun, below: Find) -> None:
    (scored,) = below(thresholds_sweep, "score")
    points = below(thresholds_sweep, "point")
    assert len(points) == 3
    assert all(below(point, "score") == [] for point in points)
    assert {point.data.tags["from.score"] for point in points} == {scored.info.run_id}
    removed = [point.data.metrics["units_removed"] for point in points]
    assert removed == sorted(removed)
    assert removed[0] < removed[-1]


def test_every_point_draws_a_curve_by_the_percentage_removed(
    weights_sweep: MlflowRun, thresholds_sweep: MlflowRun, below: Find, client: MlflowClient
) -> None:
    for point in (*below(weights_sweep, "point"), *below(thresholds_sweep, "point")):
        history = client.get_metric_history(point.info.run_id, "curve.test_accuracy")
        assert [each.step for each in history] == list(range(0, 100, 10))
        removed = [each.value for each in client.get_metric_history(point.info.run_id, "curve.units_removed")]
        assert removed[0] == 0
        assert removed == sorted(set(removed))
    (trained,) = below(weights_sweep, "train")
    first = below(weights_sweep, "point")[0]
    start = client.get_metric_history(first.info.run_id, "curve.test_accuracy")[0].value
    assert start == trained.data.metrics["test_accuracy"]


def test_the_run_on_top_shows_all_points_side_by_side(
    weights_sweep: MlflowRun, below: Find, client: MlflowClient, tmp_path: Path
) -> None:
    points = table(client, weights_sweep, "points.json", tmp_path)
    runs = below(weights_sweep, "point")
    assert points["loss_weight"] == ["0.3", "20.0"]
    assert points["run_id"] == [run.info.run_id for run in runs]
    assert points["test_accuracy"] == pytest.approx([run.data.metrics["test_accuracy"] for run in runs])
    history = client.get_metric_history(weights_sweep.info.run_id, "point.units_removed")
    assert [each.value for each in history] == [run.data.metrics["units_removed"] for run in runs]
    assert "curves.png" in {each.path for each in client.list_artifacts(weights_sweep.info.run_id)}
    note = weights_sweep.data.tags["mlflow.note.content"]
    assert note.count("\n| ") == 4  # head, rule and two points
    assert "| 20.0 |" in note


def test_a_value_that_asks_for_too_many_images_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    words = {**TINY, "tracking_uri": f"sqlite:///{store}", "over": "images_per_class", "values": "1,2,40"}
    with pytest.raises(SettingsError, match="images_per_class=40 asks for 40") as refusal:
        prepare_flow(ENTRY_POINTS["sweep"], words)
    assert "\n" not in str(refusal.value)
    assert not store.exists()
