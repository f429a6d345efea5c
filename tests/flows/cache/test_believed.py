"""Trust in work that was done before: a record under its own key, a logged file by its digest."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows import tracking
from flows.adapters import artifacts, solving
from flows.adapters.library_settings import dataset_of, network_of
from flows.adapters.programs import ProgramInputs, whole_instance
from flows.config.command_line import settings_of
from flows.config.settings import Settings
from flows.errors import ArtifactError
from flows.execution import tasks
from flows.pipelines import stage_runs
from flows.tracking import Run
from flows.tracking.file_digests import digest_tag
from formulation import Solution
from tests.flows.small_run import store_in
from training import Dataset

Swap = Callable[[Path, Path], None]


def swap_all(one: Path, other: Path) -> None:
    aside = one.with_name("swapped")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def swap_files(one: Path, other: Path) -> None:
    swap_all(one / "files", other / "files")


def swap_files_with_their_digests(one: Path, other: Path) -> None:
    swap_all(one / "files", other / "files")
    swap_all(one / "sealed.json", other / "sealed.json")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_of(settings_of({}))


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Settings]:
    return lambda **words: settings_of({"model": "fc2", "cache": str(tmp_path / "cache"), "epochs": "0", **words})


def program(settings: Settings, dataset: Dataset) -> ProgramInputs:
    images, labels = dataset.validation.images[:10], dataset.validation.labels[:10]
    return whole_instance(settings, network_of(settings, dataset), images, labels)


def solve(settings: Settings, dataset: Dataset) -> Solution:
    return solving.solved(settings, program(settings, dataset))


def same(one: Solution, other: Solution) -> bool:
    return all(np.array_equal(one.scores[layer], values) for layer, values in other.scores.items())


@pytest.mark.parametrize("swap", [swap_all, swap_files, swap_files_with_their_digests])
@pytest.mark.parametrize("other", [{"loss_weight": "0.3"}, {"gate": "pattern"}, {"seed": "5"}], ids=str)
def test_swapped_solutions_are_named_set_aside_and_found_again(
    asked: Callable[..., Settings],
    dataset: Dataset,
    tmp_path: Path,
    swap: Swap,
    other: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = [solve(asked(**words), dataset) for words in ({}, other)]
    one, two = (tmp_path / "cache" / "solve").iterdir()
    swap(one, two)
    with caplog.at_level(logging.WARNING, "flows"):
        after = [solve(asked(**words), dataset) for words in ({}, other)]
    assert caplog.text.count("so solve is done again") == 2
    assert len(list((tmp_path / "cache" / "aside").iterdir())) == 2
    for was, now in zip(before, after, strict=True):
        assert same(now, was)
        assert now.certificate.settings == was.certificate.settings
        assert now.certificate.model_hash == was.certificate.model_hash
    caplog.clear()
    solve(asked(), dataset)
    assert "done again" not in caplog.text


def moved(solution: Solution) -> Solution:
    return replace(solution, scores={layer: np.clip(values + 0.1, 0, 1) for layer, values in solution.scores.items()})


def with_other_weight(solution: Solution) -> Solution:
    settings = {**solution.certificate.settings, "loss_weight": 0.3}
    return replace(solution, certificate=replace(solution.certificate, settings=settings))


def of_another_network(solution: Solution) -> Solution:
    return replace(solution, certificate=replace(solution.certificate, model_hash="0" * 64))


def of_other_images(solution: Solution) -> Solution:
    return replace(solution, certificate=replace(solution.certificate, images_hash="0" * 64))


@pytest.mark.parametrize("forge", [moved, with_other_weight, of_another_network, of_other_images])
def test_a_forged_solution_under_the_right_key_is_named_set_aside_and_found_again(
    asked: Callable[..., Settings],
    dataset: Dataset,
    tmp_path: Path,
    forge: Callable[[Solution], Solution],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = solve(asked(), dataset)
    with solving.cache_of(asked()) as cache:
        [folder] = (tmp_path / "cache" / "solve").iterdir()
        record = cache.find("solve", folder.name)
        assert record is not None
        draft = cache.draft("solve", folder.name)
        forge(Solution.load(record.files / "solution")).save(draft.files / "solution")
        cache.seal(draft, "solve", folder.name, record.about, 0.0)
    with caplog.at_level(logging.WARNING, "flows"):
        assert same(solve(asked(), dataset), before)
    assert "is not the solution asked for" in caplog.text
    assert len(list((tmp_path / "cache" / "aside").iterdir())) == 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def run(place: Path) -> Iterator[Run]:
    store = tracking.open_store(store_in(place), "here")
    with tracking.open_flow_run(store, "top", {}) as top:
        yield top


@pytest.fixture
def logged(run: Run, place: Path) -> Path:
    return place / "mlruns" / run.run_id / "artifacts"


def turn(path: Path, place: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_every_bit_of_a_logged_file_counts(run: Run, logged: Path, dataset: Dataset) -> None:
    settings = settings_of({"model": "fc2"})
    network = network_of(settings, dataset)
    artifacts.log_weights(tracking.telling_at_once(run), network)
    artifacts.log_settings(tracking.telling_at_once(run), settings)
    masks = {"fc1": np.array([True, False])}
    artifacts.log_masks(tracking.telling_at_once(run), masks)
    readings = {
        "weights.pt": lambda: artifacts.logged_network(run, settings, dataset),
        "settings.json": lambda: artifacts.logged_settings(run),
        "masks.npz": lambda: artifacts.logged_masks(run),
    }
    for name, read in readings.items():
        read()
        size = (logged / name).stat().st_size
        for place in {0, size // 3, size // 2, size - 1}:
            turn(logged / name, place)
            with pytest.raises(ArtifactError, match=f"its {name} is not what was logged"):
                read()
            turn(logged / name, place)
        read()


@pytest.mark.parametrize("what", ["cut", "empty", "link", "folder", "missing", "other file"])
def test_a_file_that_was_replaced_is_refused_in_one_line(run: Run, logged: Path, tmp_path: Path, what: str) -> None:
    artifacts.log_scores(tracking.telling_at_once(run), {"fc1": np.array([0.5, 1.0])})
    artifacts.log_importance(tracking.telling_at_once(run), {"fc1": np.array([0.25, 1.0])})
    path = logged / "scores.npz"
    content = path.read_bytes()
    path.unlink()
    if what in ("cut", "empty"):
        path.write_bytes(content[:40] if what == "cut" else b"")
    elif what == "link":
        path.symlink_to(logged / "importance.npz")
    elif what == "folder":
        path.mkdir()
    elif what == "other file":
        shutil.copy(logged / "importance.npz", path)
    with pytest.raises(ArtifactError, match=r"^run_id=[^\n]*scores\.npz[^\n]*$"):
        artifacts.logged_scores(run)


def test_a_file_of_a_folder_that_is_missing_is_refused(run: Run, logged: Path, tmp_path: Path) -> None:
    for name in ("solution.npz", "certificate.json"):
        (tmp_path / "made" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "made" / name).write_text("{}")
    tracking.telling_at_once(run).add_files(tmp_path / "made", "solution")
    with run.opened("solution"):
        pass
    (logged / "solution" / "certificate.json").unlink()
    with pytest.raises(ArtifactError, match=r"its solution/certificate\.json is not what was logged"):
        artifacts.logged_solution(run)
    shutil.rmtree(logged / "solution")
    (logged / "solution").write_text("")
    with pytest.raises(ArtifactError, match="is not what was logged"):
        artifacts.logged_solution(run)


def test_a_file_that_is_logged_again_has_the_digest_of_the_second(run: Run) -> None:
    for values in ([0.5, 1.0], [0.25, 1.0]):
        artifacts.log_scores(tracking.telling_at_once(run), {"fc1": np.array(values)})
        assert artifacts.logged_scores(run)["fc1"].tolist() == values


def test_a_file_of_an_earlier_version_is_read_and_named(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifacts.log_scores(tracking.telling_at_once(run), {"fc1": np.array([0.5])})
    with tracking.stores.reached(run.uri) as client:
        client.delete_tag(run.run_id, digest_tag("scores.npz"))
    with caplog.at_level(logging.WARNING, "flows"):
        assert artifacts.logged_scores(run)["fc1"].tolist() == [0.5]
    assert f"run {run.run_id} says no digest of its scores.npz" in caplog.text


def test_a_damaged_file_of_a_finished_stage_is_put_right_from_the_cache_where_the_same_command_goes_on(
    run: Run, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(
        {
            "model": "fc2",
            "epochs": "1",
            "cache": str(tmp_path / "cache"),
            "tracking_uri": run.uri,
        }
    )
    with stage_runs.stage_run("train", settings, run) as trained:
        tasks.train.fn(settings, trained)
    weights = place / "mlruns" / trained.run_id / "artifacts" / "weights.pt"
    before = weights.read_bytes()
    turn(weights)
    figures = trained.metrics()
    with caplog.at_level(logging.INFO, "flows"), stage_runs.stage_run("train", settings, run) as again:
        tasks.train.fn(settings, again)
    assert again == trained
    assert "its weights.pt is not what was logged" in caplog.text
    assert "train: done before, taken over" in caplog.text
    assert weights.read_bytes() == before
    assert trained.metrics() == figures
