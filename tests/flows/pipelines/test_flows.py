"""The whole pipeline, and what it leaves in MLflow."""

import json
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run as MlflowRun

import formulation
import training
from flows.adapters import artifacts
from flows.adapters.library_settings import dataset_of, network_of
from flows.config.command_line import settings_of
from flows.config.entry_points import ENTRY_POINTS
from flows.stages.summaries.unit_report import unit_sections
from formulation import Solution
from tests.flows.small_run import WATCHED, run_of

Stages = dict[str, MlflowRun]


def artifact_names(client: MlflowClient, run: MlflowRun, folder: str | None = None) -> set[str]:
    return {Path(item.path).name for item in client.list_artifacts(run.info.run_id, folder)}


def test_there_is_one_finished_run_per_stage_below_the_main_one(main_run: MlflowRun, stage_runs: Stages) -> None:
    assert set(stage_runs) == {"train", "score", "prune", "retrain", "compact"}
    assert {run.info.status for run in [main_run, *stage_runs.values()]} == {"FINISHED"}


def test_the_settings_are_the_parameters_of_the_main_run(main_run: MlflowRun, client: MlflowClient) -> None:
    settings = settings_of({**WATCHED, "tracking_uri": client.tracking_uri})
    own = ENTRY_POINTS["main"].own
    assert main_run.data.params == {name: str(getattr(settings, name)) for name in own}
    assert artifacts.logged_settings(run_of(client, main_run)) == settings


def test_every_epoch_is_logged(client: MlflowClient, stage_runs: Stages) -> None:
    history = client.get_metric_history(stage_runs["train"].info.run_id, "validation_accuracy")
    assert [point.step for point in history] == [1, 2, 3, 4]


def test_every_scoring_set_has_a_run_with_its_rounds_and_a_checked_certificate(
    client: MlflowClient, stage_runs: Stages, tmp_path: Path
) -> None:
    score = stage_runs["score"]
    sets = client.search_runs([score.info.experiment_id], f"tags.mlflow.parentRunId = '{score.info.run_id}'")
    assert {run.info.run_name for run in sets} == {"scoring set 1", "scoring set 2"}
    for run in sets:
        folder = download_artifacts(
            run_id=run.info.run_id, artifact_path="solution", dst_path=str(tmp_path), tracking_uri=client.tracking_uri
        )
        certificate = Solution.load(folder).certificate
        assert certificate.status == run.data.tags["certificate.status"] == "optimal"
        assert certificate.checked
        rounds = client.get_metric_history(run.info.run_id, "bound")
        assert len(rounds) == certificate.rounds
        assert run.data.metrics["certificate.proved_bound"] == certificate.proved_bound == certificate.bound
        assert run.inputs.dataset_inputs


def test_the_scores_are_the_mean_over_the_sets_and_stand_in_a_table(client: MlflowClient, stage_runs: Stages) -> None:
    score = stage_runs["score"]
    scores = artifacts.logged_scores(run_of(client, score))
    sets = client.search_runs([score.info.experiment_id], f"tags.mlflow.parentRunId = '{score.info.run_id}'")
    parts = [artifacts.logged_scores(run_of(client, run)) for run in sets]
    for layer, values in scores.items():
        np.testing.assert_allclose(values, np.mean([part[layer] for part in parts], axis=0), atol=1e-12)
    table = _table(client, score)
    assert table["columns"] == ["unit", "score", "importance", "reduced_cost", "layer", "number"]
    # MLflow writes ten digits.
    np.testing.assert_allclose([row[1] for row in table["data"]], np.concatenate(list(scores.values())), atol=1e-9)
    costs = [artifacts.logged_solution(run_of(client, run)).reduced_costs for run in sets]
    ranked = [formulation.importance(artifacts.logged_solution(run_of(client, run))) for run in sets]
    importance = artifacts.logged_importance(run_of(client, score))
    for layer, values in importance.items():
        np.testing.assert_allclose(values, np.mean([part[layer] for part in ranked], axis=0), atol=1e-12)
    np.testing.assert_allclose([row[2] for row in table["data"]], np.concatenate(list(importance.values())), atol=1e-9)
    means = [np.mean([part[layer] for part in costs], axis=0) for layer in scores]
    np.testing.assert_allclose([row[3] for row in table["data"]], np.concatenate(means), atol=1e-9)


def test_the_pruned_network_emits_nothing_from_removed_units(client: MlflowClient, stage_runs: Stages) -> None:
    prune = run_of(client, stage_runs["prune"])
    settings = artifacts.logged_settings(prune)
    dataset = dataset_of(settings)
    masks = artifacts.logged_masks(prune)
    scores = artifacts.logged_scores(run_of(client, stage_runs["score"]))
    assert sum(int((~mask).sum()) for mask in masks.values()) == stage_runs["prune"].data.metrics["units_removed"] > 0
    for layer, mask in masks.items():
        np.testing.assert_array_equal(mask, training.by_threshold(scores, settings.threshold).masks[layer])
    for stage in ("prune", "retrain"):
        weights = artifacts.logged_network(run_of(client, stage_runs[stage]), settings, dataset).state_dict()
        for layer, mask in masks.items():
            assert not weights[f"{layer}.weight"][~torch.from_numpy(mask)].any()
            assert not weights[f"{layer}.bias"][~torch.from_numpy(mask)].any()


def test_every_mask_is_a_picture_and_the_scores_a_histogram(client: MlflowClient, stage_runs: Stages) -> None:
    names = artifact_names(client, stage_runs["prune"], "images")
    for layer in artifacts.logged_masks(run_of(client, stage_runs["prune"])):
        assert any(name.startswith(f"mask {layer}+") and name.endswith(".png") for name in names)
    assert {"scores.png", "scores.json", "masks.npz", "removal.json"} <= artifact_names(client, stage_runs["prune"])
    assert "kept" in _table(client, stage_runs["prune"])["columns"]


def test_the_accuracies_stand_on_the_main_run(main_run: MlflowRun, stage_runs: Stages, client: MlflowClient) -> None:
    metrics = main_run.data.metrics
    prune = stage_runs["prune"]
    draws = [point.value for point in client.get_metric_history(prune.info.run_id, "random_accuracy")]
    assert len(draws) == 2
    assert metrics["accuracy_trained"] == stage_runs["train"].data.metrics["test_accuracy"] > 0.5
    assert metrics["accuracy_pruned"] == prune.data.metrics["test_accuracy"]
    assert metrics["accuracy_random"] == np.mean(draws)
    assert metrics["accuracy_critical"] == prune.data.metrics["critical_accuracy"]
    assert metrics["accuracy_retrained"] == stage_runs["retrain"].data.metrics["test_accuracy"]
    assert "| trained |" in main_run.data.tags["mlflow.note.content"]


def test_the_compacted_network_is_the_model_of_the_main_run_with_signature_and_metadata(
    client: MlflowClient, main_run: MlflowRun, stage_runs: Stages
) -> None:
    [logged] = client.get_run(main_run.info.run_id).outputs.model_outputs
    assert stage_runs["compact"].outputs.model_outputs == [logged]
    assert not stage_runs["retrain"].outputs.model_outputs
    mlflow.set_tracking_uri(client.tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    [images_in], [logits] = model.metadata.signature.inputs.inputs, model.metadata.signature.outputs.inputs
    assert (images_in.shape, images_in.type, logits.shape) == ((-1, 1, 28, 28), np.dtype(np.float32), (-1, 10))
    retrain = run_of(client, stage_runs["retrain"])
    settings = artifacts.logged_settings(retrain)
    dataset = dataset_of(settings)
    images = dataset.test.images[:5]
    compacted = artifacts.logged_compacted(run_of(client, stage_runs["compact"]), settings, dataset)
    with torch.no_grad():
        np.testing.assert_allclose(model.predict(images.numpy()), compacted(images).numpy(), atol=1e-5)
    told = model.metadata.metadata
    assert told["classes"] == list(dataset.classes)
    assert told["units_kept"] == {layer: int(mask.sum()) for layer, mask in artifacts.logged_masks(retrain).items()}
    assert told["source_run_id"] == retrain.run_id
    assert (told["image_shape"], told["mean"], told["std"]) == ([1, 28, 28], [0.0], [1.0])
    with run_of(client, stage_runs["compact"]).opened("compact.onnx") as path:
        properties = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert {name: json.loads(properties[name]) for name in ("classes", "units_kept", "mean")} == {
        name: told[name] for name in ("classes", "units_kept", "mean")
    }
    assert properties["source_run_id"] == retrain.run_id


def test_the_model_has_the_figures_of_the_compacted_network_and_the_run_has_them_once(
    client: MlflowClient, main_run: MlflowRun, stage_runs: Stages
) -> None:
    compact = stage_runs["compact"]
    [logged] = compact.outputs.model_outputs
    model = client.get_logged_model(logged.model_id)
    assert model.source_run_id == main_run.info.run_id
    # MLflow adds those of the machine, as far as the run on top has them.
    figures = {each.key: each.value for each in model.metrics if not each.key.startswith("system/")}
    names = {"test_accuracy", "final_validation_accuracy", "parameters", "multiply_adds"}
    assert figures == {name: compact.data.metrics[name] for name in names}
    assert all(len(client.get_metric_history(compact.info.run_id, name)) == 1 for name in names)
    assert {name: main_run.data.metrics[name] for name in ("parameters", "multiply_adds")}.items() <= figures.items()


def test_the_network_is_registered_with_its_figures_and_is_the_champion(
    client: MlflowClient, main_run: MlflowRun, stage_runs: Stages
) -> None:
    name, figures = WATCHED["register_as"], stage_runs["compact"].data.metrics
    [first] = [each for each in client.search_model_versions(f"name='{name}'") if each.run_id == main_run.info.run_id]
    assert client.get_model_version_by_alias(name, "champion").version == first.version == 1
    assert first.tags["validation_accuracy"] == f"{figures['final_validation_accuracy']:.6f}"
    counted = {each: first.tags[each] for each in ("parameters", "multiply_adds", "dataset")}
    expected = {each: f"{figures[each]:.0f}" for each in ("parameters", "multiply_adds")}
    assert counted == {**expected, "dataset": "digits"}
    assert first.description.startswith("lenet5 on digits: compacted, without the removed units. Validation accuracy ")


def test_the_machine_is_watched_on_request_and_only_then(main_run: MlflowRun, stage_runs: Stages) -> None:
    assert main_run.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert "system/cpu_utilization_percentage" in main_run.data.metrics
    assert not any(name.startswith("system/") for run in stage_runs.values() for name in run.data.metrics)


def test_the_view_of_the_experiment_has_accuracy_and_size_in_front(client: MlflowClient, main_run: MlflowRun) -> None:
    number = main_run.info.experiment_id
    tags = client.get_experiment(number).tags
    assert f"(#/experiments/{number}/runs?viewStateShareKey=critical-neurons&" in tags["mlflow.note.content"]
    view = json.loads(tags["mlflow.sharedViewState.critical-neurons"])
    shown = [each.removeprefix("metrics.`").rstrip("`") for each in view["columnOrder"] if "params" not in each]
    assert shown[:3] == ["accuracy_compacted", "parameters", "multiply_adds"]
    chosen = [each.split("`")[1] for each in view["columnOrder"] if each.startswith("params.")]
    assert set(chosen) <= set(main_run.data.params)
    assert chosen[:2] == ["rule", "selection"]
    assert view["columnOrder"] == view["selectedColumns"]
    assert all(width > 8 * (len(column) - len("metrics.``")) for column, width in view["columnWidths"].items())
    # Those of nested runs aside, which are not in this one.
    assert {each for each in shown if "attributes" not in each} - {"test_accuracy"} <= set(main_run.data.metrics)


def test_the_report_names_the_most_and_the_least_critical_units_of_each_layer(
    client: MlflowClient, main_run: MlflowRun, stage_runs: Stages
) -> None:
    settings = artifacts.logged_settings(run_of(client, main_run))
    stages = {name: run_of(client, run) for name, run in stage_runs.items()}
    masks = artifacts.logged_masks(stages["prune"])
    classes = dataset_of(settings).classes
    sections = unit_sections(settings, stages, masks, classes)
    scores, importance = artifacts.logged_scores(stages["score"]), artifacts.logged_importance(stages["score"])
    highest, lowest = (section.parts[-1].rows for section in sections)
    for layer, values in importance.items():
        tops, bottoms = ([row for row in rows if row[0] == layer] for rows in (highest, lowest))
        assert len(tops) == len(bottoms) == 3
        assert [row[3] for row in tops] == pytest.approx(sorted(values)[: -len(tops) - 1 : -1], abs=1e-9)
        assert [row[3] for row in bottoms] == pytest.approx(sorted(values)[: len(bottoms)], abs=1e-9)
        for _, unit, score, _, _, kept, _ in [*tops, *bottoms]:
            assert score == pytest.approx(scores[layer][unit], abs=1e-9)
            assert kept == masks[layer][unit]
    # Held up by images of the first scoring set, whose first solution says the same.
    first = next(run for run in stages["score"].below("scoring set") if "set 1" in run.tags()["mlflow.runName"])
    held = artifacts.logged_solution(first).scores
    for layer, unit, *_, why in [*highest, *lowest]:
        assert ("image" in why or "cut" in why) == (held[layer][unit] > 0)
    with run_of(client, main_run).opened("report.html") as path:
        text = path.read_text()
    assert all(section.title in text for section in sections)
    assert str(highest[0][-1]) in text
    assert f"runs:/{stages['compact'].run_id}/compact.pt" in text


def test_the_weights_load_without_running_code(client: MlflowClient, stage_runs: Stages, tmp_path: Path) -> None:
    for stage in ("train", "prune", "retrain"):
        path = download_artifacts(
            run_id=stage_runs[stage].info.run_id,
            artifact_path="weights.pt",
            dst_path=str(tmp_path),
            tracking_uri=client.tracking_uri,
        )
        settings = artifacts.logged_settings(run_of(client, stage_runs[stage]))
        network = network_of(settings, dataset_of(settings))
        assert set(torch.load(path, weights_only=True)) == set(network.state_dict())


def _table(client: MlflowClient, run: MlflowRun) -> dict[str, list]:
    path = download_artifacts(run_id=run.info.run_id, artifact_path="scores.json", tracking_uri=client.tracking_uri)
    return json.loads(Path(path).read_text())
