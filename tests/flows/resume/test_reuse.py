"""Reuse of earlier work: done again is exactly what depends on a change."""

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from flows.adapters import library_settings
from flows.cache import location
from flows.config import FREE
from flows.config.command_line import settings_of
from flows.config.entry_points import ENTRY_POINTS
from flows.config.settings import Settings
from flows.execution.keys import Recipe, narrowed
from tests.flows.resume.snapshot import differences, snapshot
from tests.flows.small_run import SMALL, RunStage, store_in

WORDS = SMALL | {"model": "fc2", "export": "none"}
EVERYTHING = [
    *(
        "train",
        "evaluate",
        "sample",
        "lay out programs",
        "score set",
        "score set",
        "average",
        "prune",
        "evaluate",
        "compare masks",
    ),
    *("retrain", "evaluate", "compact"),
]
Reused = Callable[..., list[str]]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def before(run_stage: RunStage, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the store of a main that has run before, once: whatever it did is in the cache."""
    store = store_in(tmp_path_factory.mktemp("before"))
    run_stage("main", **WORDS, cache=str(cache), tracking_uri=store)
    return store


@pytest.fixture
def reused(run_stage: RunStage, before: str, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Reused:
    """Run main in a store of its own after it has run before; the tasks that were taken over, in their order."""

    def run(**words: str) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO, "flows"):
            after = {"cache": str(cache), "tracking_uri": store_in(tmp_path, "after.db")}
            run_stage("main", **{**WORDS, **after, **words})
        return re.findall(r"cache    (.*): done before", caplog.text)

    return run


def test_the_same_again_is_taken_over_and_logged_as_if_it_were_done(
    reused: Reused, before: str, tmp_path: Path
) -> None:
    assert reused() == EVERYTHING
    assert not differences(snapshot(before), snapshot(store_in(tmp_path, "after.db")))


def test_a_threshold_leaves_training_and_solutions_as_they_are(reused: Reused) -> None:
    assert reused(threshold="0.95") == ["train", "evaluate", "sample", "lay out programs", "score set", "score set"]


def test_a_loss_weight_leaves_training_and_scoring_sets_as_they_are(reused: Reused) -> None:
    assert reused(loss_weight="0.3") == ["train", "evaluate", "sample", "lay out programs"]


def test_another_seed_takes_over_nothing(reused: Reused) -> None:
    assert reused(seed="1") == []


def test_another_store_another_number_of_workers_and_another_experiment_change_nothing(reused: Reused) -> None:
    assert reused(workers="1", experiment="another") == EVERYTHING


@pytest.fixture
def changed_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Make the project's code count as if a comment had been added to one of its files."""

    def change(file: str) -> None:
        root = tmp_path / "changed"
        for room in location.ROOMS:
            shutil.copytree(location.ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
        with (root / file).open("a") as code:
            code.write("# another version\n")
        monkeypatch.setattr(location, "ROOT", root)
        location.code_digest.cache_clear()

    yield change
    monkeypatch.undo()
    location.code_digest.cache_clear()


def test_another_version_of_the_formulation_solves_again_and_trains_nothing(
    reused: Reused, changed_code: Callable[[str], None]
) -> None:
    changed_code("formulation/relaxation/gates.py")
    # What follows finds the same scores, so that what depends on scores alone is taken over.
    assert reused() == ["train", "evaluate", "evaluate", "compare masks", "retrain", "evaluate", "compact"]


def test_another_version_of_the_command_line_changes_nothing(
    reused: Reused, changed_code: Callable[[str], None]
) -> None:
    changed_code("flows/launch.py")
    assert reused() == EVERYTHING


def test_another_version_of_the_training_does_everything_again(
    reused: Reused, changed_code: Callable[[str], None]
) -> None:
    changed_code("training/fitting/loop.py")
    assert reused() == []


def test_another_version_of_the_tracing_does_everything_again(
    reused: Reused, changed_code: Callable[[str], None]
) -> None:
    changed_code("tracing/ops.py")
    assert reused() == []


def test_a_damaged_solution_is_found_again_and_nothing_else(
    reused: Reused, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = list((cache / "score_set").glob("*/files/scores.npz"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-7])
    assert reused() == [task for task in EVERYTHING if task != "score set"]
    named = [
        path
        for path in damaged
        if f"{path} is not what was written: damaged, so score set is done again" in caplog.text
    ]
    assert len(named) == 2


def test_another_image_in_a_folder_of_images_is_another_data_set(
    run_stage: RunStage, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    for label in ("dark", "light"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 120, (8, 8), dtype=np.uint8) + (130 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number:02}.png")
    words = {"dataset": f"folder:{folder}", "model": "fc2", "epochs": "1", "cache": str(cache)}

    def taken_over() -> bool:
        caplog.clear()
        with caplog.at_level(logging.INFO, "flows"):
            run_stage("train", **words)
        return "train: done before" in caplog.text

    assert not taken_over()
    assert taken_over()
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(folder / "light" / "00.png")
    library_settings.kept_dataset.cache_clear()
    assert not taken_over()


def test_a_task_can_read_no_setting_that_its_key_does_not_hold() -> None:
    settings = settings_of({"epochs": "3", "seed": "4"})
    seen = narrowed(Recipe("train", ("epochs",)), settings)
    assert seen.epochs == 3
    with pytest.raises(AttributeError, match="seed"):
        _ = seen.seed
    assert settings.seed == 4


def test_every_setting_is_keyed_somewhere_or_said_to_be_of_no_influence() -> None:
    assert set(FREE) < set(Settings.model_fields)
    assert set(ENTRY_POINTS["main"].own) >= set(FREE)


def test_what_was_taken_over_is_said_on_the_run(
    run_stage: RunStage, cache: Path, tmp_path: Path, client: MlflowClient
) -> None:
    ids = [run_stage("train", epochs="1", model="fc2", cache=str(cache)) for _ in range(2)]
    runs = [client.search_runs([client.get_run(each).info.experiment_id], _below(each))[0] for each in ids]
    assert [run.data.tags.get("reused", "") for run in runs] == ["", "train, evaluate"]
    assert set(runs[0].data.metrics) == set(runs[1].data.metrics)


def _below(run_id: str) -> str:
    return f"tags.mlflow.parentRunId = '{run_id}'"
