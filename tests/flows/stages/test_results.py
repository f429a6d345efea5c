"""Stages one after the other on results in memory: nothing is stored, and no tracking store is there to be asked."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

import training
from flows import stages
from flows.adapters import ProgramSpec, artifacts, dataset_of, refit_images_of, tags_of
from flows.cache import Artifact, Metrics, Part, StageResult
from flows.config import Settings, settings_of
from flows.errors import ArtifactError, CompactRefused
from flows.stages.pruning import without
from tests.flows.small_run import SMALL
from training import Split

TOLERANT = {"selection": "tolerance", "tolerance": 2.0, "refit_images": 300}
NOWHERE = "http://127.0.0.1:9"
WORDS = {"dataset": "digits", **SMALL}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return settings_of({**WORDS, "tracking_uri": NOWHERE, "draws": "2", "retrain_epochs": "1"})


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder to be in, where whoever asks MLflow fails, or leaves files."""
    folder = tmp_path_factory.mktemp("empty")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stage asks MLflow")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
        patch.setattr(MlflowClient, "__init__", refuse)
        patch.setattr(mlflow, "start_run", refuse)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def trained(settings: Settings) -> StageResult:
    return stages.train_network(settings)


@pytest.fixture(scope="module")
def sampled(settings: Settings, trained: StageResult) -> StageResult:
    return stages.draw_scoring_sets(settings, trained)


@pytest.fixture(scope="module")
def solved(settings: Settings, trained: StageResult, sampled: StageResult) -> Sequence[StageResult]:
    """The solution of every program, as what is stored of it says which that is."""
    laid_out = stages.lay_out(settings, sampled, trained, settings.scoring_sets)
    found = []
    for program in cast("list[dict[str, Any]]", laid_out.value):
        solution = stages.solve_program(settings, sampled, trained, None, program)
        solution.add_tags(tags_of(ProgramSpec(**program)))
        found.append(solution)
    return found


@pytest.fixture(scope="module")
def scored(settings: Settings, sampled: StageResult, solved: Sequence[StageResult]) -> StageResult:
    return sampled.joined(stages.average_scores(settings, solved))


@pytest.fixture(scope="module")
def pruned(settings: Settings, trained: StageResult, scored: StageResult) -> StageResult:
    return stages.prune_network(settings, scored, trained)


def test_scores_are_the_mean_of_the_solutions(scored: StageResult, solved: Sequence[StageResult]) -> None:
    assert len(solved) == 2
    for layer, values in artifacts.logged_scores(scored).items():
        mean = np.mean([artifacts.logged_solution(each).scores[layer] for each in solved], axis=0)
        np.testing.assert_allclose(values, mean, rtol=0.0, atol=1e-12)
    assert scored.tags()["certificate.status"] == "optimal"
    assert len(scored.rows("certificates.json")) == 2


def test_units_below_the_threshold_are_removed_from_the_weights_that_were_trained(
    settings: Settings, trained: StageResult, scored: StageResult
) -> None:
    settings = settings.model_copy(update={"refit": "false"})
    pruned = stages.prune_network(settings, scored, trained)
    scores, masks = artifacts.logged_scores(scored), artifacts.logged_masks(pruned)
    expected = training.by_threshold(scores, settings.threshold).masks
    assert {layer: mask.tolist() for layer, mask in masks.items()} == {
        layer: mask.tolist() for layer, mask in expected.items()
    }
    removed = sum(training.counts(masks).values())
    assert 0 < removed == pruned.metrics()["units_removed"] == pruned.json("removal.json")["units_removed"]
    dataset = dataset_of(settings)
    network = training.prune(artifacts.logged_network(trained, settings, dataset), masks, dataset.test.images[:1])
    weights = artifacts.logged_network(pruned, settings, dataset).state_dict()
    assert all(weights[name].equal(value) for name, value in network.state_dict().items())


def test_survivors_are_refitted_where_the_validation_images_gain(
    settings: Settings, trained: StageResult, scored: StageResult, pruned: StageResult
) -> None:
    found, rows = pruned.metrics(), pruned.rows("refit.json")
    assert found["refit_kept"] == (
        found["validation_accuracy_after_refit"] >= found["validation_accuracy_before_refit"]
    )
    assert [row["layer"] for row in rows] == ["conv2", "fc1", "fc2", "output"]
    assert all(0 <= row["error_after"] <= row["error_before"] for row in rows)
    dataset, masks = dataset_of(settings), artifacts.logged_masks(pruned)
    dense = artifacts.logged_network(trained, settings, dataset)
    weights = artifacts.logged_network(pruned, settings, dataset)
    expected = without(settings, dense, masks, dataset).state_dict()
    assert all(expected[name].equal(value) for name, value in weights.state_dict().items())
    compacted = stages.compact_network(settings, pruned)
    assert (
        compacted.metrics()["test_accuracy"]
        == stages.evaluate_network(settings, pruned, "pruned").metrics()["test_accuracy"]
    )


def test_steps_end_with_the_refit_of_the_dense_network_to_the_last_masks(
    settings: Settings, trained: StageResult, scored: StageResult
) -> None:
    words = {"schedule": "iterative", "selection": "share", "share": 0.6, "steps": 3, "exchange": 30, "refit": "true"}
    stepwise = settings.model_copy(update=words)
    pruned = stages.prune_network(stepwise, scored, trained)
    assert {row["step"] for row in pruned.rows("refit.json")} == {1, 2, 3}
    assert pruned.metrics()["step.refit_kept"] == 1.0
    dataset = dataset_of(settings)
    dense, masks = artifacts.logged_network(trained, settings, dataset), artifacts.logged_masks(pruned)
    expected = training.refit(dense, masks, refit_images_of(settings, dataset)).state_dict()
    found = artifacts.logged_network(pruned, settings, dataset).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def tolerant(settings: Settings, trained: StageResult, scored: StageResult) -> StageResult:
    return stages.prune_network(settings.model_copy(update=TOLERANT), scored, trained)


def test_a_tolerance_removes_what_costs_no_more_and_one_unit_further_costs_more(tolerant: StageResult) -> None:
    rows, found = tolerant.rows("tolerance.json"), tolerant.metrics()
    least = found["tolerance_dense_validation_accuracy"] - 0.02
    [chosen] = [row for row in rows if row["chosen"]]
    assert chosen["validation_accuracy"] >= least
    assert chosen["units_removed"] == found["units_removed"] > 0
    assert chosen["validation_accuracy"] == found["tolerance_validation_accuracy"]
    assert found["validation_accuracy_after_refit"] == pytest.approx(chosen["validation_accuracy"])
    further = [row for row in rows if row["units_removed"] > chosen["units_removed"]]
    assert min(further, key=lambda row: row["units_removed"])["validation_accuracy"] < least
    layers = {row["layer"] for row in tolerant.rows("sensitivity.json")}
    assert layers == {"conv1", "conv2", "fc1", "fc2"}
    assert {"tolerance.png", "sensitivity.png"} <= set(tolerant.files)


def test_test_images_choose_nothing(
    settings: Settings,
    trained: StageResult,
    scored: StageResult,
    tolerant: StageResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = dataset_of(settings)
    other = Split(1 - data.test.images, data.test.labels.roll(1))
    monkeypatch.setattr("flows.stages.pruning.prune.dataset_of", lambda _: replace(data, test=other))
    found = stages.prune_network(settings.model_copy(update=TOLERANT), scored, trained)
    masks = artifacts.logged_masks(tolerant)
    assert all(np.array_equal(mask, masks[layer]) for layer, mask in artifacts.logged_masks(found).items())
    assert found.rows("tolerance.json") == tolerant.rows("tolerance.json")


def test_what_follows_on_one_run_reads_what_was_found_for_it_before(
    settings: Settings, trained: StageResult, scored: StageResult, pruned: StageResult
) -> None:
    evaluated = pruned.joined(stages.evaluate_network(settings, pruned, "pruned"))
    compared = stages.compare_masks(settings, evaluated, scored, trained)
    rows = {row["rule"]: row for row in compared.rows("rules.json")}
    assert rows["pruned"]["accuracy"] == evaluated.metrics()["test_accuracy"]
    assert rows["random"]["draws"] == settings.draws
    retrained = stages.retrain_network(settings, pruned)
    assert set(artifacts.logged_masks(retrained)) == set(artifacts.logged_masks(pruned))


def test_every_part_is_told_as_it_is_found_and_returned_in_that_order(settings: Settings) -> None:
    heard: list[Part] = []
    result = stages.train_network(settings, on_part=heard.append)
    assert heard == result.parts
    epochs = [part.step for part in heard if isinstance(part, Metrics) and "train_loss" in part.values]
    assert epochs == [1, 2, 3, 4]
    assert list(result.files) == ["weights.pt"]


def test_what_a_stage_found_before_it_failed_has_been_told(
    settings: Settings, trained: StageResult, pruned: StageResult
) -> None:
    wrong = trained.joined(StageResult(parts=[part for part in pruned.parts if _is_masks(part)]))
    heard: list[Part] = []
    with pytest.raises((CompactRefused, training.TrainingError)):
        stages.compact_network(settings, wrong, on_part=heard.append)
    assert "difference.random" in StageResult(parts=heard).metrics()


def _is_masks(part: Part) -> bool:
    return isinstance(part, Artifact) and part.path == artifacts.MASKS


def test_a_result_without_the_file_that_a_stage_reads_is_refused_in_one_line(settings: Settings) -> None:
    with pytest.raises(ArtifactError, match=r"^run_id=: it has no artifact weights\.pt; [^\n]*$"):
        stages.evaluate_network(settings, StageResult(), "trained")


def test_the_pictures_of_masks_are_pixels_until_they_are_stored(pruned: StageResult) -> None:
    pixels = [part.pixels for part in pruned.parts if hasattr(part, "pixels")]
    assert len(pixels) == len(artifacts.logged_masks(pruned))
    assert all(Image.fromarray(each).mode == "RGB" for each in pixels)


def test_nothing_is_left_on_disk(pruned: StageResult, place: Path) -> None:
    assert pruned.parts
    assert list(place.iterdir()) == []
