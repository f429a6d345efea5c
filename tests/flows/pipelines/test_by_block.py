"""A network scored block by block, through the whole flow on a real store."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

import formulation
import training
from flows import tracking
from flows.adapters import artifacts
from flows.adapters.aggregation import program_of_run
from flows.adapters.library_settings import dataset_of
from flows.adapters.programs import ProgramSpec, block_instance, blocks_of
from flows.errors import CheckRefused, SettingsError
from flows.pipelines.stage_runs import heads_of
from flows.tracking import Run
from tests.flows.pipelines.experiments.small_transfer import write_pictures
from tests.flows.small_run import PATTERN, RunStage
from training import BlockError

# Small images: programs, heads and stages are the same, and a pass takes a third.
TRAINED = {"model": "vgg7@0.1", "epochs": "3", "seed": "1", "image_size": "16"}
SCORED = {
    **{"blocks": "auto", "images_per_class": "1", "scoring_sets": "2", "head_epochs": "1", "gap": "0.001"},
    **PATTERN,
}
PRUNED = {"selection": "threshold", "draws": "1", "compare": "random", "retrain_epochs": "1", "export": "none"}
BLOCKS = ["conv1", "conv2", "conv3", "conv4"]


@pytest.fixture(scope="module")
def top(run_stage: RunStage, client: MlflowClient) -> Run:
    return tracking.find_run(client.tracking_uri, run_stage("main", **TRAINED, **SCORED, **PRUNED))


@pytest.fixture(scope="module")
def trained(top: Run) -> Run:
    return tracking.find_stage(top, "train")


@pytest.fixture(scope="module")
def scored(top: Run) -> Run:
    return tracking.find_stage(top, "score")


def scored_again(run_stage: RunStage, trained: Run, **words: str) -> Run:
    """One set in two blocks, which are cut before conv3."""
    above = run_stage("score", run_id=trained.run_id, **{**SCORED, "scoring_sets": "1", "blocks": "conv3", **words})
    return tracking.find_stage(tracking.find_run(trained.uri, above), "score")


def certificates(scored: Run) -> dict[str, tuple[str, bool]]:
    runs = scored.below("scoring set")
    found = {str(program_of_run(run)): artifacts.logged_solution(run).certificate for run in runs}
    return {name: (each.status, each.checked) for name, each in found.items()}


def test_every_block_of_every_set_has_a_program_with_a_checked_certificate(scored: Run) -> None:
    expected = {f"set {number}, {block}": ("optimal", True) for number in (1, 2) for block in BLOCKS}
    assert certificates(scored) == expected
    rows = scored.rows("certificates.json")
    assert [row["program"] for row in rows] == sorted(expected, key=lambda name: (name[-1], name))
    assert {row["status"] for row in rows} == {"optimal"}


def test_the_scores_are_under_the_networks_own_names_in_its_order(scored: Run) -> None:
    scores = artifacts.logged_scores(scored)
    assert list(scores) == [*BLOCKS, "fc1", "fc2"]
    assert {layer: len(values) for layer, values in scores.items()} == {
        "conv1": 6, "conv2": 13, "conv3": 26, "conv4": 51, "fc1": 51, "fc2": 51,
    }  # fmt: skip


def test_a_blocks_scores_are_those_of_its_program_on_what_the_blocks_before_make(trained: Run, scored: Run) -> None:
    settings = artifacts.logged_settings(scored)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(trained, settings, dataset)
    blocks = blocks_of(settings, network, dataset.train.images)
    headed = heads_of(scored)
    assert headed is not None
    heads = artifacts.logged_heads(headed, blocks, len(dataset.classes))
    scoring_set = artifacts.logged_scoring_set(scored, 2)
    with torch.no_grad():
        read = blocks[1].module(blocks[0].module(scoring_set.images))
    instance = block_instance(settings, blocks, heads, "conv3", read, scoring_set.labels)
    solution = formulation.score(instance.network, instance.images, instance.labels, instance.settings)
    [run] = [each for each in scored.below("scoring set") if program_of_run(each) == ProgramSpec(2, "conv3", 2)]
    np.testing.assert_allclose(artifacts.logged_scores(run)["conv3"], solution.scores["conv3"], atol=1e-6)


def test_heads_learn_on_a_network_that_stays_as_it_is(trained: Run, scored: Run) -> None:
    headed = heads_of(scored)
    assert headed is not None
    rows = headed.rows("heads.json")
    assert [row["block"] for row in rows] == BLOCKS
    own = trained.metrics()["final_validation_accuracy"]
    assert rows[-1]["validation_accuracy"] == pytest.approx(own)
    assert all(row["validation_accuracy"] > 0.1 for row in rows)
    assert {f"block_accuracy.{block}" for block in BLOCKS} <= set(headed.metrics())


def test_the_report_names_programs_by_block(top: Run) -> None:
    with top.opened("report.html") as path:
        page = path.read_text()
    assert "set 1, conv1" in page
    assert "set 2, conv4" in page


def test_every_program_is_checked_again(run_stage: RunStage, client: MlflowClient, scored: Run) -> None:
    above = tracking.find_run(client.tracking_uri, run_stage("check", run_id=scored.run_id))
    checked = tracking.find_stage(above, "check")
    assert checked.metrics()["solutions"] == 8
    assert checked.json("scoring_set_2_conv3.json")["holds"] is True


def test_a_representation_that_the_network_does_not_make_is_refused(
    run_stage: RunStage, client: MlflowClient, trained: Run
) -> None:
    scored = scored_again(run_stage, trained, images_per_class="2")
    read = artifacts.logged_representation(scored, 1, "conv3")
    artifacts.log_representations(tracking.telling_at_once(scored), 1, {"conv3": read + 0.1})
    with pytest.raises(CheckRefused, match=r"1 of 2 solutions do not hold.*set 1, conv3"):
        run_stage("check", run_id=scored.run_id)
    artifacts.log_representations(tracking.telling_at_once(scored), 1, {"conv3": read})
    assert run_stage("check", run_id=scored.run_id)


@pytest.mark.slow
def test_a_program_about_what_no_block_makes_is_refused_though_it_holds(run_stage: RunStage, trained: Run) -> None:
    scored = scored_again(run_stage, trained, sets_seed="5")
    settings = artifacts.logged_settings(scored)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(trained, settings, dataset)
    blocks = blocks_of(settings, network, dataset.train.images)
    headed = heads_of(scored)
    assert headed is not None
    heads = artifacts.logged_heads(headed, blocks, len(dataset.classes))
    labels = artifacts.logged_scoring_set(scored, 1).labels
    forged = artifacts.logged_representation(scored, 1, "conv3") * 0.5
    instance = block_instance(settings, blocks, heads, "conv3", forged, labels)
    solution = formulation.score(instance.network, forged, labels, instance.settings)
    [run] = [each for each in scored.below("scoring set") if program_of_run(each) == ProgramSpec(1, "conv3", 1)]
    artifacts.log_representations(tracking.telling_at_once(scored), 1, {"conv3": forged})
    artifacts.log_solution(tracking.telling_at_once(run), solution)
    artifacts.log_scores(tracking.telling_at_once(run), solution.scores)
    with pytest.raises(CheckRefused, match="what block conv3 reads of set 1 is not what the blocks before it make"):
        run_stage("check", run_id=scored.run_id)


@pytest.mark.slow
def test_a_program_for_each_class_sees_the_images_of_that_class(run_stage: RunStage, trained: Run) -> None:
    scored = scored_again(run_stage, trained, by_class="true", images_per_class="2")
    found = certificates(scored)
    assert set(found) == {f"set 1, {block}, class {label}" for block in ("conv1", "conv3") for label in range(10)}
    assert all(artifacts.logged_solution(run).certificate.images == 2 for run in scored.below("scoring set"))
    assert list(artifacts.logged_scores(scored)) == [*BLOCKS, "fc1", "fc2"]


@pytest.mark.slow
def test_a_heads_own_units_are_scored_where_asked_for_and_their_scores_dropped(
    run_stage: RunStage, trained: Run
) -> None:
    scored = scored_again(run_stage, trained, head_units="scored")
    assert list(artifacts.logged_scores(scored)) == [*BLOCKS, "fc1", "fc2"]
    [run] = [each for each in scored.below("scoring set") if program_of_run(each) == ProgramSpec(1, "conv1", 0)]
    assert set(artifacts.logged_solution(run).scores) == {"conv1", "conv2", *training.head_layers()}
    assert set(artifacts.logged_scores(run)) == {"conv1", "conv2"}
    assert run_stage("check", run_id=scored.run_id)


@pytest.mark.slow
def test_explanations_and_ranges_are_logged_for_blocks_too(
    run_stage: RunStage, client: MlflowClient, trained: Run
) -> None:
    scored = scored_again(run_stage, trained, explain="true", ranges="true")
    for run in scored.below("scoring set"):
        names = {item.path for item in client.list_artifacts(run.run_id)}
        assert {"explanation.json", "ranges.json"} <= names


@pytest.mark.slow
def test_units_are_removed_in_steps_by_programs_of_the_blocks_as_they_are_by_then(
    run_stage: RunStage, scored: Run
) -> None:
    words = {
        "schedule": "iterative",
        "selection": "share",
        "share": "0.4",
        "steps": "2",
        "exchange": "0",
        "compare": "",
    }
    above = run_stage("prune", run_id=scored.run_id, **words)
    pruned = tracking.find_stage(tracking.find_run(scored.uri, above), "prune")
    steps = [pruned.json(f"steps/step_{number:03}.json")["certificates"] for number in (1, 2)]
    assert [len(each) for each in steps] == [len(BLOCKS)] * 2
    first, second = ([each["model_hash"] for each in step] for step in steps)
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert pruned.metrics()["units_removed_share"] == pytest.approx(0.4, abs=0.03)


@pytest.mark.slow
def test_a_network_trained_by_block_brings_its_heads_along(run_stage: RunStage, client: MlflowClient) -> None:
    words = {**TRAINED, **SCORED, **PRUNED, "fit_by": "block", "epochs": "2", "scoring_sets": "1"}
    top = tracking.find_run(client.tracking_uri, run_stage("main", **words))
    trained, scored = tracking.find_stage(top, "train"), tracking.find_stage(top, "score")
    assert heads_of(scored) == trained
    assert not top.below("heads")
    history = client.get_metric_history(trained.run_id, "block_accuracy.conv2")
    assert [each.step for each in history] == [1, 2]
    assert run_stage("check", run_id=scored.run_id)
    other = scored_again(run_stage, trained)
    assert heads_of(other) != trained


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("flow", ["sweep", "robustness"])
def test_questions_of_one_network_are_asked_by_block_too(
    run_stage: RunStage, client: MlflowClient, tmp_path: Path, flow: str
) -> None:
    words = {**TRAINED, **SCORED, "blocks": "conv3", "dataset": write_pictures(tmp_path), "image_size": "16"}
    own = {"over": "loss_weight", "values": "1,5"} if flow == "sweep" else {}
    top = client.get_run(run_stage(flow, **words, **own))
    assert top.info.status == "FINISHED"


@pytest.mark.slow
def test_a_mask_found_by_block_is_carried_to_other_data(run_stage: RunStage, client: MlflowClient, tmp_path) -> None:
    from PIL import Image

    for place in range(200):
        folder = tmp_path / f"class{place % 2}"
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(place).integers(0, 255, (28, 28), np.uint8) // (1 + place % 2)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    words = {**TRAINED, **SCORED, "blocks": "conv3", "dataset": "digits", "draws": "1", "seeds": "1"}
    top = client.get_run(run_stage("transfer", target=f"folder:{tmp_path}", **{**words, "images_per_class": "1"}))
    assert {"accuracy_transferred_mean", "accuracy_random_mean"} <= set(top.data.metrics)


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"blocks": "conv9"}, BlockError, "cut 'conv9': the model calls no Linear or convolution of this name"),
        ({"blocks": "fc2"}, BlockError, "block 'conv1' makes values of shape .* cut before a convolution"),
        ({"model": "resnet20@0.2", "blocks": "stage1.block1.conv2"}, BlockError, "is crossed by a branch"),
        ({"model": "fc3"}, SettingsError, "model=fc3 has no convolution"),
        ({"blocks": "whole", "fit_by": "block"}, SettingsError, "fit_by=block: the network is one block"),
        ({"blocks": ""}, SettingsError, "blocks=: must not be empty"),
        ({"blocks": "conv2,conv2"}, BlockError, "the cut before 'conv2' is named twice"),
    ],
)
def test_what_cannot_be_cut_is_refused_before_anything_is_written(
    run_stage: RunStage, client: MlflowClient, words: dict[str, str], error: type[Exception], says: str
) -> None:
    before = len(client.search_runs(["0", "1"]))
    with pytest.raises(error) as caught:
        run_stage("main", **{**TRAINED, **SCORED, **words})
    assert re.search(says, str(caught.value))
    assert "\n" not in str(caught.value)
    assert len(client.search_runs(["0", "1"])) == before


@pytest.mark.slow
def test_layers_that_share_units_are_named_in_the_report(
    run_stage: RunStage, client: MlflowClient, tmp_path: Path
) -> None:
    words = {**TRAINED, **SCORED, **PRUNED, "model": "resnet20@0.25", "scoring_sets": "1", "epochs": "20"}
    words |= {"dataset": write_pictures(tmp_path), "image_size": "16"}
    words |= {"blocks": "stage2.block1.conv1", "gate": "linear"}
    top = tracking.find_run(client.tracking_uri, run_stage("main", **words))
    groups = tracking.find_stage(top, "score").json("groups.json")
    assert "stage1.block1.conv2" in groups["conv1"]
    with top.opened("report.html") as path:
        page = path.read_text()
    assert all(f"<td>{layer}</td>" in page for layer in groups)
