"""Single stages on what an earlier run logged, and what they refuse."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows import tracking
from flows.adapters import artifacts
from flows.adapters.library_settings import dataset_of
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import ArtifactError, CheckRefused, FlowError
from flows.pipelines.preparation import prepare_flow
from flows.tracking import Run
from formulation import FormulationError
from tests.flows.small_run import LOW_SCORES, PATTERN, RunStage
from training import TrainingError

Stages = dict[str, MlflowRun]


def _child(client: MlflowClient, run_id: str, stage: str) -> MlflowRun:
    experiment = client.get_run(run_id).info.experiment_id
    wanted = f"tags.mlflow.parentRunId = '{run_id}' and tags.stage = '{stage}'"
    [run] = client.search_runs([experiment], wanted)
    return run


def test_stages_run_one_by_one_give_what_the_main_run_gave(
    run_stage: RunStage, client: MlflowClient, main_run: MlflowRun, stage_runs: Stages
) -> None:
    scored = run_stage("score", run_id=main_run.info.run_id, images_per_class="1", scoring_sets="2", **PATTERN)
    named = {"register_as": "masked", "champion_rule": "multiply_adds"}
    pruned = run_stage("prune", run_id=scored, draws="2", **LOW_SCORES, **named)
    retrained = run_stage("retrain", run_id=_child(client, pruned, "prune").info.run_id, **named)
    for stage, run_id in (("prune", pruned), ("retrain", retrained)):
        metrics = _child(client, run_id, stage).data.metrics
        assert metrics["test_accuracy"] == stage_runs[stage].data.metrics["test_accuracy"]
    # Both are masked, not smaller: the second cannot win by its size.
    versions = {int(each.version): each for each in client.search_model_versions("name='masked'")}
    assert [versions[number].run_id for number in (1, 2)] == [pruned, retrained]
    assert client.get_model_version_by_alias("masked", "champion").version == 1
    before = client.get_run(scored).data.params
    assert "register_as" not in before
    dense = Run(client.tracking_uri, main_run.info.experiment_id, stage_runs["prune"].info.run_id).json("removal.json")
    assert {versions[number].tags["multiply_adds"] for number in (1, 2)} == {str(dense["multiply_adds_before"])}


def test_stored_solutions_hold_when_checked_again(
    run_stage: RunStage, client: MlflowClient, stage_runs: Stages
) -> None:
    checked = _child(client, run_stage("check", run_id=stage_runs["score"].info.run_id), "check")
    assert checked.info.status == "FINISHED"
    assert checked.data.metrics["solutions"] == 2
    assert checked.data.metrics["solutions_refused"] == 0


def test_a_spoilt_solution_is_refused_and_its_run_fails(
    run_stage: RunStage, client: MlflowClient, main_run: MlflowRun
) -> None:
    words = {**PATTERN, "images_per_class": "1", "scoring_sets": "3"}
    scored = _child(client, run_stage("score", run_id=main_run.info.run_id, **words), "score")
    [first, *_] = Run(client.tracking_uri, scored.info.experiment_id, scored.info.run_id).below("scoring set")
    solution = artifacts.logged_solution(first)
    layer = next(iter(solution.scores))
    solution.scores[layer][0] += 0.5 if solution.scores[layer][0] < 0.5 else -0.5
    artifacts.log_solution(tracking.telling_at_once(first), solution)
    with pytest.raises(CheckRefused, match=f"1 of 3 solutions do not hold: {first.run_id}"):
        run_stage("check", run_id=scored.info.run_id)
    found = client.search_runs([scored.info.experiment_id], "tags.stage = 'check'", max_results=1)
    assert found[0].info.status == "FAILED"


def test_a_refused_run_leaves_no_experiment_behind(client: MlflowClient, main_run: MlflowRun, store_uri: str) -> None:
    with pytest.raises(ArtifactError, match="run_id=nothing: no such run"):
        prepare_flow(
            ENTRY_POINTS["score"], {"run_id": "nothing", "tracking_uri": store_uri, "experiment": "never made"}
        )
    assert client.get_experiment_by_name("never made") is None


def test_a_layer_that_cannot_be_lowered_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.Sigmoid(), nn.Linear(5, 10))\n"
    )
    words = {"model": f"{tmp_path / 'own.py'}:net", "tracking_uri": "sqlite:///unused"}
    with pytest.raises(FormulationError, match=r"'2'.*Sigmoid"):
        prepare_flow(ENTRY_POINTS["main"], {**words, "gate": "pattern"})


def test_a_network_with_a_constant_behind_its_gates_is_trained_scored_and_pruned(
    run_stage: RunStage, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Shifted(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(64, 8), nn.Linear(8, 10)\n"
        "    def forward(self, x):\n"
        "        return self.b(torch.relu(self.a(x.flatten(1))) + 1)\n"
    )
    words = {"model": f"{tmp_path / 'own.py'}:Shifted", "image_size": "8"}
    trained = run_stage("train", **words, epochs="8", learning_rate="0.01")
    named = {"model": words["model"]}
    scored = run_stage("score", run_id=trained, images_per_class="1", **PATTERN, **named)
    assert client.get_run(scored).info.status == "FINISHED"
    pruned = run_stage("prune", run_id=scored, selection="share", share="0.5", compare="none", **named)
    assert client.get_run(pruned).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("words", "what"), [({"epochs": "1"}, "^epochs=1: .* no trainable"), ({"epochs": "0"}, "^retrain_epochs=1: ")]
)
def test_a_network_without_trainable_parameters_is_refused_where_it_would_be_trained(
    tmp_path: Path, words: dict[str, str], what: str
) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.ReLU(), nn.Linear(5, 10)).requires_grad_(False)\n"
    )
    store = tmp_path / "mlflow.db"
    with pytest.raises(FlowError, match=what):
        prepare_flow(
            ENTRY_POINTS["main"], {"model": f"{tmp_path / 'own.py'}:net", "tracking_uri": f"sqlite:///{store}", **words}
        )
    assert not store.exists()


def test_a_stage_needs_the_stage_before_it(client: MlflowClient, stage_runs: Stages, store_uri: str) -> None:
    words = {"run_id": stage_runs["train"].info.run_id, "tracking_uri": store_uri}
    alone = Run(store_uri, stage_runs["train"].info.experiment_id, stage_runs["train"].info.run_id)
    with pytest.raises(ArtifactError, match="finished check stage"):
        tracking.find_stage(alone, "check")
    assert prepare_flow(ENTRY_POINTS["prune"], words).model == "lenet5"


def test_a_network_logged_in_mlflow_is_a_model_to_start_from(
    run_stage: RunStage, client: MlflowClient, stage_runs: Stages, main_run: MlflowRun
) -> None:
    trained = Run(client.tracking_uri, main_run.info.experiment_id, stage_runs["train"].info.run_id)
    settings = artifacts.logged_settings(trained)
    network = artifacts.logged_network(trained, settings, dataset_of(settings))
    mlflow.set_tracking_uri(client.tracking_uri)
    with mlflow.start_run(experiment_id=main_run.info.experiment_id):
        logged = mlflow.pytorch.log_model(
            network, name="network", serialization_format="pickle", pip_requirements=["torch"]
        )
    named = {"model": logged.model_uri, "allow_pickle": "true"}
    again = run_stage("train", epochs="0", **named)
    scored = run_stage("score", run_id=again, images_per_class="1", **PATTERN, **named)
    metrics = _child(client, again, "train").data.metrics
    assert metrics["test_accuracy"] == stage_runs["train"].data.metrics["test_accuracy"]
    assert client.get_run(scored).info.status == "FINISHED"


def test_an_exported_program_is_refused_with_what_to_log_instead(
    client: MlflowClient, stage_runs: Stages, store_uri: str
) -> None:
    [logged] = stage_runs["compact"].outputs.model_outputs
    words = {"model": f"models:/{logged.model_id}", "tracking_uri": store_uri}
    with pytest.raises(ArtifactError, match="exported program without layers: log the network with"):
        prepare_flow(ENTRY_POINTS["main"], words)


def test_under_mlflow_run_the_run_on_top_is_the_one_that_it_opened(
    run_stage: RunStage, client: MlflowClient, main_run: MlflowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = client.create_run(main_run.info.experiment_id).info.run_id
    # As `mlflow run` does: raw text in the shell's quotes.
    client.log_param(opened, "checkpoint", "''")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    assert run_stage("train", epochs="1") == opened
    top, below = client.get_run(opened), _child(client, opened, "train")
    assert (top.info.status, below.info.status) == ("FINISHED", "FINISHED")
    assert top.data.params["checkpoint"] == "''"
    assert top.data.params["epochs"] == "1"


def test_another_store_than_that_of_mlflow_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'one.db'}")
    with pytest.raises(FlowError, match="set MLFLOW_TRACKING_URI for it instead"):
        prepare_flow(ENTRY_POINTS["train"], {"tracking_uri": f"sqlite:///{tmp_path / 'two.db'}"})


def test_a_failing_flow_leaves_no_run_running(run_stage: RunStage, client: MlflowClient) -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        run_stage("train", learning_rate="1e9", epochs="1")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert not client.search_runs(experiments, "attributes.status = 'RUNNING'")
    newest = client.search_runs(experiments, "tags.flow = 'train'", max_results=1)
    assert newest[0].info.status == "FAILED"
