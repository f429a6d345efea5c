"""The published table: a small one on digits, and what it refuses."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from mlflow import MlflowClient

import training
from flows import tracking
from flows.adapters import artifacts
from flows.adapters.library_settings import dataset_of
from flows.config.entry_points import ENTRY_POINTS
from flows.config.settings import Settings
from flows.errors import FlowError
from flows.pipelines.experiments.reproduce import own_of
from flows.pipelines.flows import run_flow
from flows.pipelines.preparation import prepare_flow
from flows.stages.experiments.published import NETWORKS, SHARES, columns_of, lines_of, markdown_of
from flows.tracking import Run
from tests.flows.small_run import RunStage
from training import TrainingError

pytestmark = pytest.mark.slow

TINY = {
    "models": "fc2",
    "datasets": "digits",
    "thresholds": "0.2",
    "epochs": "2",
    "images_per_class": "3",
    "draws": "2",
}


def below(run: Run, stage: str) -> list[Run]:
    """All runs of a stage in the tree below a run."""
    client = MlflowClient(run.uri)
    found = client.search_runs(
        [run.experiment_id], f"tags.mlflow.parentRunId = '{run.run_id}'", order_by=["start_time"]
    )
    children = [(Run(run.uri, run.experiment_id, each.info.run_id), each.data.tags.get("stage")) for each in found]
    return [each for child, tag in children for each in ([child] if tag == stage else []) + below(child, stage)]


def name_of(run: Run) -> str:
    return run.tags()["mlflow.runName"]


@pytest.fixture(scope="module")
def top(run_stage: RunStage, client: MlflowClient, store_uri: str) -> Run:
    return tracking.find_run(store_uri, run_stage("reproduce", **TINY, seeds="1"))


def test_both_kinds_of_settings_remove_the_same_number_of_units(top: Run) -> None:
    rows = below(top, "row")
    assert [name_of(row) for row in rows] == ["published, threshold 0.2", "own, threshold 0.2"]
    published, own = (row.json("row.json") for row in rows)
    assert 0 < published["units_removed"] == own["units_removed"] < published["units_total"]
    assert published["dense"] == own["dense"]
    assert [name_of(cell) for cell in below(top, "cell")] == ["fc2 on digits, seed 0"]


def test_the_published_program_is_that_of_the_authors(top: Run) -> None:
    scored, _ = below(top, "score")
    settings = artifacts.logged_settings(scored)
    found = (settings.gate, settings.layer_weight, settings.loss_weight, settings.radius, settings.relax)
    assert found == ("published", "kernel", 5.0, 1e-5, True)
    assert len(artifacts.logged_joined_set(scored, settings.scoring_sets)) == 10


def test_snip_removes_as_much_as_the_program_and_keeps_it_removed(top: Run) -> None:
    for row in below(top, "row"):
        [pruned] = below(row, "prune")
        by_kind = {name_of(run): run for run in below(row, "snip")}
        per_unit, per_connection = by_kind["SNIP per unit"], by_kind["SNIP per connection"]
        trained = {name_of(run): run for run in below(row, "sparse")}
        masks, account = artifacts.logged_masks(per_unit), pruned.json("removal.json")
        assert training.counts(masks) == training.counts(artifacts.logged_masks(pruned))
        settings = artifacts.logged_settings(per_unit)
        dataset = dataset_of(settings)
        network = artifacts.logged_network(trained["SNIP per unit, trained"], settings, dataset)
        example = dataset.test.images[:1]
        removed = training.removal(network, masks, example)
        assert removed.parameters_after == account["parameters_after"]
        without = training.prune(network, masks, example).state_dict()
        assert all(value.equal(without[key]) for key, value in network.state_dict().items())
        zeros = artifacts.logged_connections(per_connection)
        assert (
            sum(int(gone.sum()) for gone in zeros.values())
            == account["parameters_before"] - account["parameters_after"]
        )
        state = artifacts.logged_network(trained["SNIP per connection, trained"], settings, dataset).state_dict()
        assert not any(state[key][gone].any() for key, gone in zeros.items())
        assert all(state[key][~gone].all() for key, gone in zeros.items())
        shares = [run.metrics()["parameters_removed_share"] for run in (pruned, per_connection)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-12)


def test_the_run_on_top_shows_table_figure_metrics_and_statuses(top: Run) -> None:
    rows = [row.json("row.json") for row in below(top, "row")]
    metrics, tags = top.metrics(), top.tags()
    for row in rows:
        for name in (*NETWORKS, *SHARES):
            assert metrics[f"fc2.digits.0.2.{row['settings']}/{name}"] == row[name]
    assert not [name for name in metrics if name.endswith(".error")], "one seed has no standard error"
    assert tags["certificate.status"] == "optimal"
    note = tags["mlflow.note.content"]
    lines = markdown_of(lines_of(rows))
    assert note.endswith("\n".join(lines))
    assert "seed 0" in note
    for file in ("table.md", "table.json", "table.png"):
        with top.opened(file) as path:
            assert path.stat().st_size > 0
    with top.opened("table.md") as path:
        assert path.read_text().splitlines() == lines


@pytest.mark.slow
def test_seeds_are_averaged_and_the_first_is_as_it_is_alone(run_stage: RunStage, store_uri: str, top: Run) -> None:
    two = tracking.find_run(store_uri, run_stage("reproduce", **TINY, seeds="2"))
    rows = [row.json("row.json") for row in below(two, "row")]
    assert [row["seed"] for row in rows] == [0, 0, 1, 1]
    alone = [row.json("row.json") for row in below(top, "row")]
    assert rows[:2] == alone
    metrics = two.metrics()
    for place, kind in enumerate(("published", "own")):
        accuracies = [float(str(row["program"])) for row in (rows[place], rows[place + 2])]
        assert metrics[f"fc2.digits.0.2.{kind}/program"] == pytest.approx(mean(accuracies))
        assert metrics[f"fc2.digits.0.2.{kind}/program.error"] == pytest.approx(abs(np.subtract(*accuracies)) / 2)


def record(seed: int, kind: str, value: float, status: str = "optimal", threshold: float = 0.1) -> Mapping[str, object]:
    names = (*NETWORKS, *SHARES, "snip_connections_published_share")
    keys = {"model": "fc3", "dataset": "mnist", "threshold": threshold, "settings": kind}
    return {**keys, "seed": seed, "status": status} | dict.fromkeys(names, value)


def test_what_was_not_proved_optimal_shows_in_the_table_whatever_the_seed() -> None:
    records = [record(0, "published", 0.5), record(0, "own", 0.7), record(1, "published", 0.6, "time_limit")]
    published, own = lines_of(records)
    assert published.status == "optimal, time_limit"
    assert published.means["dense"] == pytest.approx(0.55)
    assert published.errors is not None
    assert published.errors["dense"] == pytest.approx(0.05)
    assert own.errors is None
    first, second = markdown_of([published, own])[2:]
    assert first.startswith("| fc3, mnist | 0.1 | published | 55.00 (5.00) |")
    assert first.endswith("| 55.0 (5.0) | optimal, time_limit |")
    assert second.startswith("| fc3, mnist | 0.1 | own | 70.00 | 70.00 |")
    assert columns_of([published, own])["status"] == ["optimal, time_limit", "optimal"]


def test_own_settings_stand_below_the_published_ones_of_the_same_threshold() -> None:
    records = [record(0, kind, 0.5, threshold=each) for kind in ("published", "own") for each in (0.2, 0.1)]
    found = [(line.threshold, line.settings) for line in lines_of(records)]
    assert found == [(0.2, "published"), (0.2, "own"), (0.1, "published"), (0.1, "own")]


@pytest.mark.parametrize(
    ("removed", "schedule", "steps"), [(0, "one_shot", 16), (1, "iterative", 1), (30, "iterative", 6)]
)
def test_own_settings_take_a_step_for_every_twentieth_of_the_units(removed: int, schedule: str, steps: int) -> None:
    found = own_of(Settings(), removed, 100)
    assert (found.share, found.schedule, found.steps) == (removed / 100, schedule, steps)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"models": "fc3,fc5"}, r"model 'fc5' is unknown \(did you mean 'fc"),
        ({"datasets": "digits,digts"}, r"dataset 'digts' is unknown \(did you mean 'digits'\?\)"),
        ({"models": "fc2,fc3, fc2"}, "models=fc2,fc3, fc2: 'fc2' is in the list 2 times: give it once"),
        ({"datasets": "digits,"}, "datasets=digits,: an item of the list is empty"),
        ({"thresholds": "0.1,1.5"}, r"thresholds=0.1,1.5: 1.5 is out of range: .* the nearest is 1"),
        ({"thresholds": "-0.1"}, "-0.1 is out of range: .* the nearest is 0"),
        ({"thresholds": "nan"}, "nan is out of range"),
        ({"thresholds": "0.1,low"}, "'low' is not a number"),
        ({"thresholds": "0.1,0.10"}, "'0.1' is in the list 2 times"),
        ({"epochs": "0"}, "epochs=0 trains nothing"),
        ({"images_per_class": "100"}, "asks for 100: lower one of them"),
        ({"seeds": "0"}, "seeds=0"),
    ],
)
def test_what_makes_no_table_is_refused_in_one_line_before_anything_is_written(
    words: dict[str, str], named: str, tmp_path: Path
) -> None:
    store = tmp_path / "store.db"
    with pytest.raises((FlowError, TrainingError), match=named) as refused:
        prepare_flow(ENTRY_POINTS["reproduce"], {**TINY, "tracking_uri": f"sqlite:///{store}", **words})
    assert "\n" not in str(refused.value)
    assert not store.exists()


@pytest.mark.slow
def test_a_gap_that_is_not_reached_shows_as_a_status_of_the_whole_table(run_stage: RunStage, store_uri: str) -> None:
    # Smaller than the solver's own tolerances.
    settings = prepare_flow(ENTRY_POINTS["reproduce"], {**TINY, "seeds": "1", "tracking_uri": store_uri})
    top = tracking.find_run(store_uri, run_flow("reproduce", settings.model_copy(update={"gap": 1e-15})))
    published, own = (row.json("row.json") for row in below(top, "row"))
    assert published["status"] == "stalled"
    assert own["status"] == "optimal", "its settings have a gap of their own"
    assert top.tags()["certificate.status"] == "optimal, stalled"
    assert "| optimal |" in top.tags()["mlflow.note.content"]
    assert "| stalled |" in top.tags()["mlflow.note.content"]
