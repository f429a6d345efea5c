"""One real transfer, from digits to coloured pictures of three classes, and what it refuses."""

import json
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
from flows.adapters.library_settings import dataset_of, network_of
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import FlowError
from flows.pipelines.preparation import prepare_flow
from flows.stages.experiments.transfer_summary import ARMS, ON_SOURCE, ON_TARGET
from flows.tracking import Run
from tests.flows.pipelines.experiments.small_transfer import WORDS
from tests.flows.small_run import RunStage

pytestmark = pytest.mark.slow
CARRIED = {"ticket", "source_rewound", "transferred", "rewound"}


@pytest.fixture(scope="module")
def top(run_stage: RunStage, store_uri: str, pictures: str) -> Run:
    return tracking.find_run(store_uri, run_stage("transfer", **WORDS, target=pictures))


@pytest.fixture(scope="module")
def seeds(top: Run) -> list[Run]:
    return top.below("seed")


def arms(seed: Run, client: MlflowClient) -> dict[str, list[Run]]:
    """The arms' runs below the run of a seed, oldest first."""
    wanted = f"tags.mlflow.parentRunId = '{seed.run_id}'"
    found: dict[str, list[Run]] = {}
    for each in client.search_runs([seed.experiment_id], wanted, order_by=["attributes.start_time ASC"]):
        if arm := each.data.tags.get("arm"):
            found.setdefault(arm, []).append(Run(seed.uri, seed.experiment_id, each.info.run_id))
    return found


def family(top: Run, client: MlflowClient) -> list[MlflowRun]:
    """The run on top and all below it; the store holds other tests' runs too."""
    everything = client.search_runs([top.experiment_id], order_by=["attributes.start_time ASC"])
    known = {top.run_id}
    for run in everything:
        if run.data.tags.get("mlflow.parentRunId") in known:
            known.add(run.info.run_id)
    return [run for run in everything if run.info.run_id in known]


def weights(run: Run, file: str) -> dict[str, torch.Tensor]:
    with run.opened(file) as path:
        return torch.load(path, weights_only=True)


def test_there_is_a_run_per_seed_and_below_it_one_per_arm(
    top: Run, seeds: list[Run], client: MlflowClient, pictures: str
) -> None:
    assert [client.get_run(each.run_id).info.run_name for each in seeds] == ["seed 0", "seed 1"]
    for seed in seeds:
        found = arms(seed, client)
        assert {arm: len(runs) for arm, runs in found.items()} == {
            **dict.fromkeys(ON_SOURCE | ON_TARGET, 1),
            "random": 2,
        }
        for arm, runs in found.items():
            data = "digits" if arm in ON_SOURCE else pictures
            for run in runs:
                kept = client.get_run(run.run_id)
                assert kept.data.tags["trained_on"] == kept.data.params["dataset"] == data
                assert kept.info.run_name.startswith(f"{Path(data).name}: {ARMS[arm]}")
                assert "test_accuracy" in kept.data.metrics
    assert {run.info.status for run in family(top, client)} == {"FINISHED"}


def test_all_arms_on_the_target_begin_with_the_initial_weights_but_for_the_head(
    seeds: list[Run], client: MlflowClient
) -> None:
    first, other = (seed.below("initial") for seed in seeds)
    settings = artifacts.logged_settings(first[0])
    expected = network_of(settings, dataset_of(settings)).state_dict()
    source, target, early = (weights(run, "weights.pt") for run in first)
    trained = arms(seeds[0], client)["source_dense"][0]
    for key, value in source.items():
        assert torch.equal(value, expected[key])
        if not key.startswith("output."):
            assert torch.equal(target[key], value)
            assert torch.equal(early[key], weights(trained, "early.pt")[key])
    assert (source["output.weight"].shape, target["output.weight"].shape) == ((10, 300), (3, 300))
    assert torch.equal(target["output.weight"], early["output.weight"])
    assert not torch.equal(weights(other[1], "weights.pt")["output.weight"], target["output.weight"])
    assert first[1].tags()["new_head"] == "output"
    assert "`output` is drawn anew" in first[1].tags()["mlflow.note.content"]


def test_the_early_checkpoint_is_that_of_the_first_training(seeds: list[Run], client: MlflowClient) -> None:
    trained = arms(seeds[1], client)["source_dense"][0]
    settings = artifacts.logged_settings(trained)
    dataset = dataset_of(settings)
    alone = training.fit(
        network_of(settings, dataset),
        dataset.train,
        dataset.validation,
        training.FitSettings(epochs=1, seed=settings.seed),
    ).model.state_dict()
    assert all(torch.equal(value, alone[key]) for key, value in weights(trained, "early.pt").items())


def test_every_masked_arm_removes_the_counts_of_the_mask_and_holds_them(seeds: list[Run], client: MlflowClient) -> None:
    for seed in seeds:
        found = arms(seed, client)
        [prune] = seed.below("prune")
        masks = artifacts.logged_masks(prune)
        assert 0 < training.counts(masks)["fc1"] < 300
        for arm in sorted(found.keys() - {"dense", "source_dense"}):
            for run in found[arm]:
                own = artifacts.logged_masks(run)
                assert training.counts(own) == training.counts(masks)
                assert np.array_equal(own["fc1"], masks["fc1"]) == (
                    arm in {"ticket", "transferred", "rewound", "source_rewound"}
                )
                after = weights(run, "weights.pt")
                removed = torch.from_numpy(~own["fc1"])
                assert not after["fc1.weight"][removed].any()
                assert not after["output.weight"][:, removed].any()
                assert after["fc1.weight"][~removed].any(1).all()


def test_masks_are_the_highest_values_of_what_found_them(seeds: list[Run], client: MlflowClient) -> None:
    seed = seeds[0]
    found = arms(seed, client)
    removed = training.counts(artifacts.logged_masks(found["transferred"][0]))
    at_initialisation, _, on_target = seed.below("score")
    initial = seed.below("initial")[0]
    settings = artifacts.logged_settings(initial)
    dataset = dataset_of(settings)
    evidence = training.Evidence(
        network_of(settings, dataset), dataset.validation.images, dataset.validation.labels, ("fc1",)
    )
    [snip], drawn = training.draw_scores("snip", evidence), training.draw_scores("random", evidence, 2)
    expected = {
        "own": [artifacts.logged_importance(on_target)],
        "initial_program": [artifacts.logged_importance(at_initialisation)],
        "initial_snip": [snip],
        "random": drawn,
        "source_random": drawn[:1],
    }
    for arm, values in expected.items():
        for run, each in zip(found[arm], values, strict=True):
            np.testing.assert_array_equal(artifacts.logged_masks(run)["fc1"], training.by_counts(each, removed)["fc1"])


def test_the_top_run_has_means_errors_and_differences_over_the_seeds(
    top: Run, seeds: list[Run], client: MlflowClient
) -> None:
    metrics = top.metrics()
    accuracies = {
        arm: [np.mean([run.metrics()["test_accuracy"] for run in arms(seed, client)[arm]]) for seed in seeds]
        for arm in ON_SOURCE | ON_TARGET
    }
    for arm, (first, second) in accuracies.items():
        assert metrics[f"accuracy_{arm}_mean"] == pytest.approx((first + second) / 2)
        assert metrics[f"accuracy_{arm}_stderr"] == pytest.approx(abs(first - second) / 2)
        history = client.get_metric_history(top.run_id, f"accuracy_{arm}")
        assert [(point.step, point.value) for point in history] == [
            (0, pytest.approx(first)),
            (1, pytest.approx(second)),
        ]
    for one, other in (("transferred", "dense"), ("transferred", "random"), ("own", "transferred")):
        first, second = (a - b for a, b in zip(accuracies[one], accuracies[other], strict=True))
        name = f"difference_{one}_minus_{other}"
        assert metrics[f"{name}_mean"] == pytest.approx((first + second) / 2)
        # 12.706 is the 97.5 % quantile of Student's distribution with one degree of freedom.
        reach = 12.7062 * abs(first - second) / 2
        assert metrics[f"{name}_high"] - metrics[f"{name}_mean"] == pytest.approx(reach, rel=1e-4, abs=1e-9)
        assert metrics[f"{name}_mean"] - metrics[f"{name}_low"] == pytest.approx(reach, rel=1e-4, abs=1e-9)


def test_the_top_run_shows_a_table_a_figure_and_a_description(top: Run, client: MlflowClient, pictures: str) -> None:
    path = download_artifacts(run_id=top.run_id, artifact_path="arms.json", tracking_uri=top.uri)
    table = json.loads(Path(path).read_text())
    assert table["columns"] == ["arm", "accuracy", "stderr", "trained on", "what", "seeds"]
    assert [row[0] for row in table["data"]] == [*ARMS]
    assert {item.path for item in client.list_artifacts(top.run_id)} >= {"arms.png", "settings.json"}
    note = top.tags()["mlflow.note.content"]
    for words in (
        f"| {Path(pictures).name} | transferred mask |",
        "| transferred minus random |",
        "`output` is drawn anew",
    ):
        assert words in note


def test_a_mask_of_an_earlier_run_takes_the_place_of_the_search_and_one_seed_has_no_errors(
    run_stage: RunStage, seeds: list[Run], client: MlflowClient, pictures: str
) -> None:
    earlier = arms(seeds[0], client)["own"][0]
    words = WORDS | {"seeds": "1", "draws": "1", "epochs": "1", "rule": "l1_norm", "selection": "share"}
    top = tracking.find_run(earlier.uri, run_stage("transfer", **words, target=pictures, mask_run=earlier.run_id))
    [seed] = top.below("seed")
    found = arms(seed, client)
    assert set(found) == set(ON_TARGET) - {"rewound"}
    masks = artifacts.logged_masks(earlier)
    np.testing.assert_array_equal(artifacts.logged_masks(found["transferred"][0])["fc1"], masks["fc1"])
    norms = np.abs(weights(found["dense"][0], "weights.pt")["fc1.weight"].numpy().astype(np.float64)).sum(1)
    expected = training.by_counts({"fc1": norms}, training.counts(masks))
    np.testing.assert_array_equal(artifacts.logged_masks(found["own"][0])["fc1"], expected["fc1"])
    metrics = top.metrics()
    assert not [name for name in metrics if name.endswith(("_stderr", "_low", "_high"))]
    assert all(np.isfinite(value) for value in metrics.values())
    note = top.tags()["mlflow.note.content"]
    assert "one seed: no standard error" in note
    assert f"the mask of run `{earlier.run_id}`" in note


def test_an_arm_can_be_made_smaller(run_stage: RunStage, seeds: list[Run], client: MlflowClient) -> None:
    arm = arms(seeds[0], client)["transferred"][0]
    # Its images lie in a folder, which is named again.
    words = {"run_id": arm.run_id, "dataset": artifacts.logged_settings(arm).dataset}
    compact = tracking.find_run(arm.uri, run_stage("compact", **words, export="none"))
    [stage] = compact.below("compact")
    metrics = stage.metrics()
    assert metrics["test_accuracy"] == pytest.approx(arm.metrics()["test_accuracy"])
    assert metrics["parameters_ratio"] < 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"mask_run": "{arm}", "model": "lenet5", "image_size": "20"}, "mask for 'fc1' is bool of shape"),
        ({"mask_run": "{arm}", "model": "fc3"}, "masked or scored, but not both: fc2"),
        ({"mask_run": "{top}"}, "neither it nor a run below it is a finished"),
        ({"mask_run": "{arm}", "tracking_uri": "{elsewhere}"}, "there is no tracking store"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_in_one_line_before_anything_is_written(
    words: dict[str, str], message: str, top: Run, seeds: list[Run], client: MlflowClient, pictures: str, tmp_path: Path
) -> None:
    store, experiment = seeds[0].uri, seeds[0].experiment_id
    names = {"arm": arms(seeds[0], client)["own"][0].run_id, "top": top.run_id}
    words = {name: value.format(**names, elsewhere=f"sqlite:///{tmp_path}/none.db") for name, value in words.items()}
    before = len(client.search_runs([experiment]))
    with pytest.raises(FlowError, match=message) as refused:
        prepare_flow(ENTRY_POINTS["transfer"], WORDS | {"target": pictures, "tracking_uri": store} | words)
    assert "\n" not in str(refused.value)
    assert len(client.search_runs([experiment])) == before
    assert not list(tmp_path.iterdir())
