"""Layers' names in names of files: whatever torch allows, nothing leaves its record or the files of its run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows import tracking
from flows.adapters import artifacts
from flows.cache import Draft, StageResult, open_draft
from flows.cache.names import file_name, is_path, metric_name
from flows.errors import ArtifactError
from flows.tracking import Run

NAMES = [
    *("/x/y", "../../x", "..", ".", "/", "a/../../b", "//x", "~", ".hidden", "a b", "é", "x" * 300, "a\nb", "a\\b"),
    *("%2e%2e%2fx", "a+step+1", "CON", "-rf", " ", "a/b", "a~b"),
]


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@given(st.text(min_size=1))
def test_a_file_name_is_one_plain_component_and_plain_names_are_kept(name: str) -> None:
    made = file_name(name)
    assert made
    assert not made.startswith(".")
    assert not set(made) & {"/", "\0", "\n", "\\", "%"}
    assert len(made.encode()) < 200
    assert is_path(made)


@given(st.sets(st.text(alphabet="ab./~% é", min_size=1, max_size=6), min_size=2, max_size=20))
def test_two_names_never_share_a_file_or_a_metric(names: set[str]) -> None:
    assert len({file_name(name) for name in names}) == len(names)
    assert len({metric_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["features.0", "layer4.2.conv1", "classifier", "set_1,_features.3"])
def test_names_of_ordinary_layers_stay_as_they_are(name: str) -> None:
    assert file_name(name) == metric_name(name).replace(",", "_") or file_name(name) == name


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("around")


@pytest.fixture
def run(around: Path) -> Iterator[Run]:
    store = tracking.open_store(f"sqlite:///{around / 'store' / 'mlflow.db'}", "here")
    with tracking.open_flow_run(store, "top", {}) as top:
        yield top


@pytest.fixture
def draft(around: Path) -> Iterator[Draft]:
    opened = open_draft(around / "deep" / "cache" / "score_set" / "key.draft")
    yield opened
    shutil.rmtree(opened.folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", [True, False], ids=["record", "run"])
def test_a_layer_of_any_name_stays_in_its_record_and_in_its_run(
    run: Run, draft: Draft, around: Path, name: str, kept: bool
) -> None:
    result = StageResult() if kept else tracking.telling_at_once(run)
    place = draft.folder if kept else around / "store" / "mlruns" / run.run_id / "artifacts"
    others, below = everything(around), str(place.relative_to(around))
    values = {name: torch.rand(2, 3)}
    artifacts.log_representations(result, 1, values)
    artifacts.log_scores(result, {name: np.array([0.5])})
    result.add_picture(np.zeros((4, 4, 3), np.uint8), f"mask {name}")
    result.add_metrics({f"units_removed.{name}": 1.0})
    if kept:
        tracking.entries_of(result.parts, draft.files)
    earlier = result if kept else run
    assert torch.equal(artifacts.logged_representation(earlier, 1, name), values[name])
    assert artifacts.logged_scores(earlier)[name].tolist() == [0.5]
    new = everything(around) - others
    assert [path for path in new if not path.startswith((below, "store/mlflow.db"))] == []
    assert len([path for path in new if path.startswith(below)]) == 4


@pytest.mark.parametrize("file", ["/x.json", "../x.json", "a/../../x.json", "a//b.json", "a/./b.json", ""])
def test_a_path_that_leaves_the_files_of_a_run_is_refused(run: Run, around: Path, file: str) -> None:
    for each in (tracking.telling_at_once(run), StageResult()):
        before = everything(around)
        with pytest.raises(ArtifactError, match="no path among a run's artifacts"):
            each.add_json({}, file)
        assert everything(around) == before
