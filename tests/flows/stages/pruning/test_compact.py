"""Compacting what earlier runs pruned, and what becomes of it where that cannot be done."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run as MlflowRun

import training
from flows import tracking
from flows.adapters import artifacts
from flows.adapters.library_settings import dataset_of
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import CompactRefused
from flows.pipelines.preparation import prepare_flow
from tests.flows.small_run import LOW_SCORES, PATTERN, RunStage, run_of
from training import ExportError, UnsupportedGraph

Stages = dict[str, MlflowRun]

POOLED = """
from torch import nn

def net():
    pooled = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(4), nn.Flatten()]
    return nn.Sequential(*pooled, nn.Linear(96, 10), nn.ReLU(), nn.Linear(10, 10))
"""

INSISTING = """
import torch
from torch import nn

class Insisting(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.output = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.output(torch.relu(self.first(x.flatten(1)))) + self.first.bias[:10]
"""


def _stage(client: MlflowClient, run_id: str, stage: str) -> MlflowRun:
    found = tracking.find_stage(tracking.find_run(client.tracking_uri, run_id), stage)
    return client.get_run(found.run_id)


def _artifacts(client: MlflowClient, run: MlflowRun) -> set[str]:
    return {item.path for item in client.list_artifacts(run.info.run_id)}


@pytest.fixture(scope="module")
def own_run(run_stage: RunStage, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A main run of a network that ONNX cannot hold."""
    file = tmp_path_factory.mktemp("own") / "pooled.py"
    file.write_text(POOLED)
    words = {"model": f"{file}:net", "image_size": "8", "epochs": "8", "learning_rate": "0.01", "draws": "1"}
    scoring = {**PATTERN, "images_per_class": "1", "selection": "threshold"}
    return run_stage("main", **words, **scoring, export="torch")


def test_the_compacted_network_is_logged_with_its_costs_and_exports(client: MlflowClient, stage_runs: Stages) -> None:
    compact = stage_runs["compact"]
    assert _artifacts(client, compact) >= {"compact.pt", "compact.pt2", "compact.onnx", "costs.json", "costs.png"}
    run = run_of(client, compact)
    found = run.json("costs.json")
    metrics = compact.data.metrics
    removal = run_of(client, stage_runs["prune"]).json("removal.json")
    for name in ("parameters", "multiply_adds"):
        assert found["dense"][name] == removal[f"{name}_before"]
        assert found["compacted"][name] == removal[f"{name}_after"] == metrics[name]
        assert metrics[f"{name}_ratio"] == found["compacted"][name] / found["dense"][name] < 1
    assert metrics["file_bytes_ratio"] < 1
    for number, batch in enumerate((1, 64)):
        before, after = (found[which]["latencies"][number] for which in ("dense", "compacted"))
        assert before["batch"] == after["batch"] == batch
        assert before["p95"] >= before["median"] > 0
        assert metrics[f"latency_ratio.batch_{batch}"] == after["median"] / before["median"]
    assert metrics["export_difference.torch"] <= 1e-4
    assert metrics["export_difference.onnx"] <= 1e-4


def test_the_logged_file_alone_gives_the_outputs_of_the_retrained_network(
    client: MlflowClient, stage_runs: Stages, tmp_path: Path
) -> None:
    compact, retrain = stage_runs["compact"], run_of(client, stage_runs["retrain"])
    path = download_artifacts(
        run_id=compact.info.run_id,
        artifact_path="compact.pt",
        dst_path=str(tmp_path),
        tracking_uri=client.tracking_uri,
    )
    assert torch.load(path, weights_only=True)["spec"]["model"] == "lenet5"
    smaller = training.load_compact(path)
    settings = artifacts.logged_settings(retrain)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(retrain, settings, dataset)
    images = torch.rand(1000, *dataset.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(smaller(images), network(images), atol=1e-5, rtol=0.0)
    for layer, mask in artifacts.logged_masks(retrain).items():
        assert len(smaller.get_submodule(layer).weight) == mask.sum()
    assert compact.data.metrics["test_accuracy"] == stage_runs["retrain"].data.metrics["test_accuracy"]


def test_the_main_run_says_what_compacting_saved(main_run: MlflowRun, stage_runs: Stages) -> None:
    metrics = stage_runs["compact"].data.metrics
    assert main_run.data.metrics["multiply_adds_ratio"] == metrics["multiply_adds_ratio"]
    assert main_run.data.metrics["latency_ratio.batch_64"] == metrics["latency_ratio.batch_64"]
    assert main_run.data.metrics["accuracy_compacted"] == metrics["test_accuracy"]
    [line] = [part for part in main_run.data.tags["mlflow.note.content"].split("\n\n") if part.startswith("Compacted")]
    assert f"{100 * metrics['multiply_adds_ratio']:.1f} % of the multiply-adds" in line


def test_a_run_of_several_stages_gives_its_retrained_network_and_a_prune_run_its_own(
    run_stage: RunStage, client: MlflowClient, main_run: MlflowRun, stage_runs: Stages
) -> None:
    for run, stage in ((main_run, "retrain"), (stage_runs["score"], "retrain"), (stage_runs["prune"], "prune")):
        found = tracking.find_stage(run_of(client, run), *ENTRY_POINTS["compact"].continues)
        assert found.run_id == stage_runs[stage].info.run_id
    compact = _stage(
        client,
        run_stage("compact", run_id=stage_runs["prune"].info.run_id, export="none", register_as="compacted"),
        "compact",
    )
    [version] = client.search_model_versions("name='compacted'")
    assert version.run_id == compact.data.tags["mlflow.parentRunId"]
    assert version.tags["multiply_adds"] == f"{compact.data.metrics['multiply_adds']:.0f}"
    assert compact.data.tags["from.prune"] == stage_runs["prune"].info.run_id
    assert compact.data.metrics["test_accuracy"] == stage_runs["prune"].data.metrics["test_accuracy"]
    assert not {"compact.pt2", "compact.onnx"} & _artifacts(client, compact)


def test_masks_that_are_not_those_of_the_weights_are_refused(
    run_stage: RunStage, client: MlflowClient, stage_runs: Stages
) -> None:
    words = {"run_id": stage_runs["score"].info.run_id, "draws": "1", **LOW_SCORES}
    pruned = _stage(client, run_stage("prune", **words), "prune")
    masks = artifacts.logged_masks(run_of(client, pruned))
    masks["fc1"][np.flatnonzero(masks["fc1"])[:20]] = False
    artifacts.log_masks(tracking.telling_at_once(run_of(client, pruned)), masks)
    with pytest.raises(CompactRefused, match=r"outputs differ by \S+ of their scale on 1000 random images") as caught:
        run_stage("compact", run_id=pruned.info.run_id, export="none")
    assert "\n" not in str(caught.value)
    [failed] = client.search_runs([pruned.info.experiment_id], "tags.stage = 'compact'", max_results=1)
    assert failed.info.status == "FAILED"
    assert "compact.pt" not in _artifacts(client, failed)


@pytest.mark.slow
def test_an_operation_that_cannot_be_exported_fails_the_run_and_leaves_what_was_made(
    run_stage: RunStage, client: MlflowClient, own_run: str
) -> None:
    assert client.get_run(own_run).info.status == "FINISHED"
    with pytest.raises(ExportError, match=r"adaptive_max_pool2d.*; export=torch leaves it out") as caught:
        run_stage("compact", run_id=own_run, model=client.get_run(own_run).data.params["model"])
    assert "\n" not in str(caught.value)
    experiment = client.get_run(own_run).info.experiment_id
    [failed, *_] = client.search_runs([experiment], "tags.stage = 'compact'", max_results=1)
    assert failed.info.status == "FAILED"
    assert _artifacts(client, failed) >= {"compact.pt", "costs.json", "compact.pt2"}
    retrain = _stage(client, own_run, "retrain")
    assert _artifacts(client, retrain) >= {"weights.pt", "masks.npz"}
    assert retrain.info.status == "FINISHED"


def test_such_an_operation_is_refused_by_main_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "pooled.py").write_text(POOLED)
    store = tmp_path / "mlflow.db"
    words = {"model": f"{tmp_path / 'pooled.py'}:net", "image_size": "8", "tracking_uri": f"sqlite:///{store}"}
    with pytest.raises(ExportError, match=r"adaptive_max_pool2d.*; export=torch leaves it out"):
        prepare_flow(ENTRY_POINTS["main"], words)
    assert not store.exists()


def test_a_network_that_cannot_be_compacted_fails_the_main_run_after_its_summary(
    run_stage: RunStage, client: MlflowClient, tmp_path: Path, main_run: MlflowRun
) -> None:
    (tmp_path / "insisting.py").write_text(INSISTING)
    words = {"model": f"{tmp_path / 'insisting.py'}:Insisting", "image_size": "8", "epochs": "8", "draws": "1"}
    scoring = {**PATTERN, "images_per_class": "1", "selection": "threshold"}
    with pytest.raises(UnsupportedGraph, match=r"Insisting cannot be compacted: .* in first; ") as caught:
        run_stage("main", **words, **scoring, learning_rate="0.01", export="none")
    assert "\n" not in str(caught.value)
    newest = client.search_runs([main_run.info.experiment_id], "tags.flow = 'main'", max_results=1)[0]
    below = client.search_runs([newest.info.experiment_id], f"tags.mlflow.parentRunId = '{newest.info.run_id}'")
    status = {run.data.tags["stage"]: run.info.status for run in below}
    assert newest.info.status == status.pop("compact") == "FAILED"
    assert set(status.values()) == {"FINISHED"}
    assert newest.data.metrics["accuracy_retrained"] > 0.5
    assert "Compacted" not in newest.data.tags["mlflow.note.content"]
    retrain = _stage(client, newest.info.run_id, "retrain")
    assert _artifacts(client, retrain) >= {"weights.pt", "masks.npz"}
